// Selects the kernels: those built for the widest instruction set that the machine supports.
#pragma once

#include "problem.h"

namespace reminding {

template <>
const Kernels<float>& kernels<float>();
template <>
const Kernels<double>& kernels<double>();

// For tests, which run the narrower kernels too. Uses no instruction set wider than `most` (0: baseline, 1: AVX2,
// 2: AVX-512), and returns the one now in use.
int64_t limit_isa(int64_t most);

}  // namespace reminding
