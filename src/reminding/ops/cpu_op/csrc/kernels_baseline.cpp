#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "problem.h"

#define SAB_ISA baseline
#define SAB_VECTOR_BYTES 16
#include "kernels.h"
