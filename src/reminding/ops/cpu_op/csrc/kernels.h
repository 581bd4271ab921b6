// Defines Kernels<T> for the instruction set named SAB_ISA. Include this last, after the standard headers: the target
// pragma applies to everything below it.
#pragma once

#include "backward.h"
#include "forward.h"
#include "past.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
void exponentiate_all(T* x, int64_t size) {
  exponentiate(x, size);
}

template <class T>
constexpr Kernels<T> table = {packed_size<T>, pack<T>,         forward<T>,          backward<T>,
                              replay<T>,      past_forward<T>, exponentiate_all<T>, bounds<T>,
                              multiply<T>};

extern const Kernels<float> float_kernels;
extern const Kernels<double> double_kernels;
const Kernels<float> float_kernels = table<float>;
const Kernels<double> double_kernels = table<double>;

}  // namespace SAB_ISA
}  // namespace reminding
