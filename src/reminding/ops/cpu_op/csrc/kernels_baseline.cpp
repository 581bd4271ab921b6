#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "problem.h"

#define SAB_ISA baseline
#define SAB_VECTOR_BYTES 16
#include "kernels.h"
