// Which of the kernels run: those of the widest instruction set that the machine has.
#pragma once

#include "problem.h"

namespace reminding {

template <>
const Kernels<float>& kernels<float>();
template <>
const Kernels<double>& kernels<double>();

// For tests: the narrower kernels run on every machine that has the wider ones. `most` 0: baseline, 1: AVX2, 2:
// AVX-512. Returns what is now in use.
int64_t limit_isa(int64_t most);

}  // namespace reminding
