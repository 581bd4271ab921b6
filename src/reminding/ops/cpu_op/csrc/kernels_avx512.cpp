#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "problem.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
#endif

#define SAB_ISA avx512
#define SAB_VECTOR_BYTES 64
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
