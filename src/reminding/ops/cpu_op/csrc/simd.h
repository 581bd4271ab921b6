// Vectors of SAB_VECTOR_BYTES bytes, by the compiler's vector extension, so that one source serves SSE2, AVX2,
// AVX-512 and NEON. Only the kernel files include this, each in the namespace of its instruction set. Nothing here
// may have linkage outside of that namespace, or the linker could pick AVX code for a machine without AVX.
//
// Do not build this with -ffast-math: exp_ rounds by adding and subtracting a large constant.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "problem.h"

namespace reminding {
namespace SAB_ISA {

#define SAB_INLINE static inline __attribute__((always_inline))
#define SAB_INLINE_SPECIAL inline __attribute__((always_inline))  // of a specialization, which has its linkage
#define SAB_OUTLINE __attribute__((noinline))

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(SAB_VECTOR_BYTES)));
  typedef int32_t Int __attribute__((vector_size(SAB_VECTOR_BYTES)));
  typedef int32_t Bits;
  static constexpr int width = SAB_VECTOR_BYTES / 4;
  static constexpr int mantissa_bits = 23, exponent_bias = 127;
  static constexpr float round_magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float epsilon = 1.1920929e-7f;
  static constexpr float exp_limit = 87.0f;
  // Keys and queries are stored as e^(2k); for |k| above this limit, e^(2k) is no longer a normal number.
  static constexpr float key_limit = 43.0f;
  static constexpr float least_weight = 1.5e-8f;
  // Denominators are stored multiplied by `unit`, so that a product of four can also use the range below 1.
  static constexpr float unit = 9.313225746154785e-10f;  // 2^-30
  static constexpr float largest_of_four = 1e28f, largest_of_two = 1e36f;
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(SAB_VECTOR_BYTES)));
  typedef int64_t Int __attribute__((vector_size(SAB_VECTOR_BYTES)));
  typedef int64_t Bits;
  static constexpr int width = SAB_VECTOR_BYTES / 8;
  static constexpr int mantissa_bits = 52, exponent_bias = 1023;
  static constexpr double round_magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;
  static constexpr double epsilon = 2.220446049250313e-16;
  static constexpr double exp_limit = 708.0;
  static constexpr double key_limit = 350.0;
  static constexpr double least_weight = 1e-17;
  static constexpr double unit = 5.527147875260445e-76;  // 2^-250
  static constexpr double largest_of_four = 1e220, largest_of_two = 1e300;
};

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
SAB_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
SAB_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// Loads the first `lanes` elements; the others are 0.
template <class T>
SAB_INLINE Vec<T> load(const T* p, int64_t lanes) {
  if (__builtin_expect(lanes >= Simd<T>::width, 1)) return load(p);
  Vec<T> v = {};
  for (int64_t i = 0; i < lanes; ++i) v[i] = p[i];
  return v;
}

template <class T>
SAB_INLINE void store(T* p, Vec<T> v, int64_t lanes) {
  if (__builtin_expect(lanes >= Simd<T>::width, 1)) return store(p, v);
  for (int64_t i = 0; i < lanes; ++i) p[i] = v[i];
}

template <class T>
SAB_INLINE Vec<T> fill(T x) {
  return x - Vec<T>{};  // not x + 0: that turns -0 into 0, so the compiler could not drop the addition
}

// a b + c, rounded once where the instruction set can. Elsewhere the compiler chooses which sums it fuses: it may choose
// differently for two rows of one loop, whose scores would then differ in the last bit for equal keys.
SAB_INLINE Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
#if SAB_VECTOR_BYTES == 64
  return _mm512_fmadd_ps(a, b, c);
#elif SAB_VECTOR_BYTES == 32
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

SAB_INLINE Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) {
#if SAB_VECTOR_BYTES == 64
  return _mm512_fmadd_pd(a, b, c);
#elif SAB_VECTOR_BYTES == 32
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}

template <class V>
SAB_INLINE V vmax(V a, V b) {
  return a > b ? a : b;
}

// The sum over the lanes. The vector is halved down to 16 bytes, all in registers.
template <class T>
SAB_INLINE T sum(Vec<T> v) {
  typedef T Quarter __attribute__((vector_size(16)));
  Quarter part[SAB_VECTOR_BYTES / 16];
  __builtin_memcpy(part, &v, sizeof(v));
  for (int half = SAB_VECTOR_BYTES / 32; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  const Quarter x = part[0];
  if (sizeof(T) == 8) return x[0] + x[1];
  return (x[0] + x[2 % (16 / sizeof(T))]) + (x[1] + x[3 % (16 / sizeof(T))]);
}

// The sums over the lanes of four vectors, each added up in the order of `sum`.
template <class T>
SAB_INLINE void sum_four(const Vec<T>* v, T* out) {
  for (int i = 0; i < 4; ++i) out[i] = sum<T>(v[i]);
}

#if SAB_VECTOR_BYTES == 64
template <>
SAB_INLINE_SPECIAL void sum_four<float>(const Vec<float>* v, float* out) {
  const Vec<float> low = _mm512_shuffle_f32x4(v[0], v[1], 0x44) + _mm512_shuffle_f32x4(v[0], v[1], 0xee);
  const Vec<float> high = _mm512_shuffle_f32x4(v[2], v[3], 0x44) + _mm512_shuffle_f32x4(v[2], v[3], 0xee);
  Vec<float> x = _mm512_shuffle_f32x4(low, high, 0x88) + _mm512_shuffle_f32x4(low, high, 0xdd);
  x += (Vec<float>)_mm512_permute_ps(x, 0x4e);
  x += (Vec<float>)_mm512_permute_ps(x, 0xb1);
  for (int i = 0; i < 4; ++i) out[i] = x[4 * i];
}
#endif

// a / b, for b from 2^-125 to 2^125 in size. Rounding may differ from a division's in the last place where a division is
// slow: there the estimate of 1 / b, which has 14 bits, is refined by a step of Newton's method.
template <class T>
SAB_INLINE Vec<T> ratio(Vec<T> a, Vec<T> b) {
  return a / b;
}

#if SAB_VECTOR_BYTES == 64
template <>
SAB_INLINE_SPECIAL Vec<float> ratio<float>(Vec<float> a, Vec<float> b) {
  const Vec<float> near = _mm512_rcp14_ps(b);
  return a * multiply_add(near, multiply_add(-b, near, fill<float>(1)), near);
}
#endif

template <class T>
SAB_INLINE T largest(Vec<T> v) {
  typedef T Quarter __attribute__((vector_size(16)));
  Quarter part[SAB_VECTOR_BYTES / 16];
  __builtin_memcpy(part, &v, sizeof(v));
  for (int i = 1; i < SAB_VECTOR_BYTES / 16; ++i) part[0] = vmax(part[0], part[i]);
  T best = part[0][0];
  for (unsigned i = 1; i < 16 / sizeof(T); ++i) best = part[0][i] > best ? part[0][i] : best;
  return best;
}

SAB_INLINE Vec<float> exp_polynomial(Vec<float> r) {
  Vec<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// The Taylor series up to r^13, for |r| <= ln(2)/2; the first omitted term is 4e-18.
SAB_INLINE Vec<double> exp_polynomial(Vec<double> r) {
  Vec<double> p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  return p * (r * r) + r + 1.0;
}

template <class T>
SAB_INLINE Vec<T> exp_(Vec<T> x) {
  using S = Simd<T>;
  // NaN stays NaN: comparisons with it are false, so that both selections below keep x.
  const Vec<T> high = fill<T>(S::exp_limit), low = fill<T>(-S::exp_limit);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Vec<T> magic = x * T(1.4426950408889634) + S::round_magic;
  const Vec<T> n = magic - S::round_magic;
  const Vec<T> r = x - n * S::ln2_high - n * S::ln2_low;
  const Vec<T> bias = fill<T>(S::round_magic);
  typename S::Int bits, bias_bits;
  __builtin_memcpy(&bits, &magic, sizeof(bits));
  __builtin_memcpy(&bias_bits, &bias, sizeof(bits));
  bits = (bits - bias_bits + S::exponent_bias) << S::mantissa_bits;
  Vec<T> scale;
  __builtin_memcpy(&scale, &bits, sizeof(bits));
  return exp_polynomial(r) * scale;
}

template <class T>
SAB_INLINE Vec<T> sigmoid(Vec<T> x) {
  return T(1) / (T(1) + exp_<T>(-x));
}

// 1 - 2/(1+e^2x) loses relative accuracy near 0; float32 uses an odd polynomial there.
SAB_INLINE Vec<float> tanh_(Vec<float> x) {
  const Vec<float> far = 1.0f - 2.0f / (1.0f + exp_<float>(x + x));
  const Vec<float> z = x * x;
  Vec<float> p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Vec<float> near = p * z * x + x;
  return z < fill(0.390625f) ? near : far;
}

SAB_INLINE Vec<double> tanh_(Vec<double> x) { return 1.0 - 2.0 / (1.0 + exp_<double>(x + x)); }

// Owns aligned memory. Not a std::vector: the linker may share its instantiations between instruction sets.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(std::malloc(sizeof(T) * static_cast<size_t>(size + 1) + 64))) {
    if (data_ == nullptr) std::abort();  // as operator new does in a function that may not throw
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const {
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(data_) + 63) & ~uintptr_t(63));
  }
  T& operator[](int64_t i) const { return get()[i]; }

 private:
  T* data_;
};

}  // namespace SAB_ISA
}  // namespace reminding
