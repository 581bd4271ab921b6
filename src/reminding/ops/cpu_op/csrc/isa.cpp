#include "isa.h"

#include <algorithm>

#include "arguments.h"

namespace reminding {

#define SAB_DECLARE(isa)                        \
  namespace isa {                               \
  extern const Kernels<float> float_kernels;    \
  extern const Kernels<double> double_kernels;  \
  }
SAB_DECLARE(baseline)
#if defined(__x86_64__)
SAB_DECLARE(avx2)
SAB_DECLARE(avx512)
#endif

enum class Isa : int64_t { baseline = 0, avx2 = 1, avx512 = 2 };

static Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

static Isa chosen_isa = best_isa();

int64_t limit_isa(int64_t most) {
  chosen_isa = std::min(best_isa(), static_cast<Isa>(between("most", most, 0, 2)));
  return static_cast<int64_t>(chosen_isa);
}

template <>
const Kernels<float>& kernels<float>() {
#if defined(__x86_64__)
  if (chosen_isa == Isa::avx512) return avx512::float_kernels;
  if (chosen_isa == Isa::avx2) return avx2::float_kernels;
#endif
  return baseline::float_kernels;
}

template <>
const Kernels<double>& kernels<double>() {
#if defined(__x86_64__)
  if (chosen_isa == Isa::avx512) return avx512::double_kernels;
  if (chosen_isa == Isa::avx2) return avx2::double_kernels;
#endif
  return baseline::double_kernels;
}

}  // namespace reminding
