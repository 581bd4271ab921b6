// The scores of all memories of one row, and the gradients of the few that were recalled.
//
// The additive score uses tanh(k + q) = 1 - 2 / (1 + e^2k e^2q). With e^2k stored per memory and e^2q computed once
// per step, a term costs a multiply-add and a share of a division, but no tanh.
//
// Shapes: M memories, D score width, H hidden.
#pragma once

#include "problem.h"
#include "simd.h"
#include "tanh_sums.h"

namespace reminding {
namespace SAB_ISA {

// x <- e^(2x); returns the largest |x|. x is clamped to +-key_limit, beyond which e^2x is no longer a normal number.
template <class T>
T exponentiate(T* x, int64_t size) {
  const Vec<T> limit = fill<T>(Simd<T>::key_limit);
  Vec<T> peak = {};
  for (int64_t i = 0; i < size; i += Simd<T>::width) {
    Vec<T> v = load<T>(x + i, size - i);
    peak = vmax(vmax(v, -v), peak);
    v = v > limit ? limit : v;
    v = v < -limit ? -limit : v;
    store<T>(x + i, exp_<T>(v + v), size - i);
  }
  return largest<T>(peak);
}

// How many of the additive score's terms w / (1 + e^2k e^2q) share one division. Division is slow, so terms are put
// over a common denominator, as many at a time as cannot overflow. The weights are folded into the terms:
// w / (1 + kq) = 1 / (1/w + k (q/w)).
enum class Terms : char { four, two, plain };

// The sum of 4 vectors of 1 / (key query + offset), for one memory.
template <class T, Terms terms>
SAB_INLINE Vec<T> block_terms(const T* key, const Vec<T>* q, const Vec<T>* c) {
  constexpr int W = Simd<T>::width;
  const Vec<T> x = multiply_add(load(key), q[0], c[0]), y = multiply_add(load(key + W), q[1], c[1]);
  const Vec<T> u = multiply_add(load(key + 2 * W), q[2], c[2]), v = multiply_add(load(key + 3 * W), q[3], c[3]);
  if (terms == Terms::plain) return T(1) / x + T(1) / y + T(1) / u + T(1) / v;
  const Vec<T> xy = x * y, uv = u * v;
  if (terms == Terms::two) return ratio<T>(x + y, xy) + ratio<T>(u + v, uv);
  return ratio<T>(multiply_add(x + y, uv, (u + v) * xy), xy * uv);
}

// The keys of a few memories of one row. Fewer than `Rows` are filled up with the last key, so that every score is
// computed by the same instructions and does not depend on a memory's neighbours.
template <class T, int Rows>
struct Keys {
  // Of consecutive memories.
  Keys(const T* keys, int64_t size, int64_t D) {
    for (int r = 0; r < Rows; ++r) key[r] = keys + (r < size ? r : size - 1) * D;
  }
  Keys(const T* const* keys, int64_t size) {
    for (int r = 0; r < Rows; ++r) key[r] = keys[r < size ? r : size - 1];
  }
  const T* key[Rows];
};

// Keys mostly come from L3, and their rows are too short for the hardware prefetcher to get ahead.
template <class T, int Vectors>
SAB_INLINE void fetch(const T* keys) {
  for (int i = 0; i < Vectors * Simd<T>::width; i += 64 / sizeof(T)) __builtin_prefetch(keys + i);
}

template <class T, int Rows, Terms terms>
SAB_INLINE void block_rows(const Keys<T, Rows>& keys, int64_t d, int64_t ahead, const T* query, const T* offset,
                           Vec<T>* sums) {
  constexpr int W = Simd<T>::width;
  Vec<T> q[4], c[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    q[i] = load(query + i * W);
    c[i] = load(offset + i * W);
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    const T* key = keys.key[r] + d;
    fetch<T, 4>(key + ahead);
    sums[r] += block_terms<T, terms>(key, q, c);
  }
}

// The same sum for a pair of vectors after the last block; `together`: over one denominator.
template <class T, int Rows>
SAB_INLINE void pair_rows(const Keys<T, Rows>& keys, int64_t d, int64_t ahead, const T* query, const T* offset,
                          bool together, Vec<T>* sums) {
  constexpr int W = Simd<T>::width;
  const Vec<T> q = load(query), p = load(query + W), c = load(offset), b = load(offset + W);
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    const T* key = keys.key[r] + d;
    fetch<T, 2>(key + ahead);
    const Vec<T> x = multiply_add(load(key), q, c), y = multiply_add(load(key + W), p, b);
    sums[r] += together ? ratio<T>(x + y, x * y) : T(1) / x + T(1) / y;
  }
}

// W3, prepared for `scores`. A weight whose reciprocal could overflow is raised to least_weight times the largest
// weight (2^-26 in float32), too small to change the sum.
template <class T>
class AdditiveWeights {
 public:
  AdditiveWeights(const T* w, int64_t D)
      : D_(D), offset_(D + Simd<T>::width), query_(D + Simd<T>::width), terms_(D / block + 1) {
    for (int64_t d = 0; d < D; ++d) {
      const T size = w[d] < 0 ? -w[d] : w[d];
      largest_ = size > largest_ ? size : largest_;
      total_ += w[d];
      sizes_ += size;
    }
    for (int64_t d = 0; d < D; ++d) {
      const T ratio = largest_ > 0 ? w[d] / largest_ : T(1);
      const T size = ratio < 0 ? -ratio : ratio;
      const T inverse = Simd<T>::unit / (size > Simd<T>::least_weight ? size : Simd<T>::least_weight);
      offset_[d] = ratio < 0 ? -inverse : inverse;
    }
    for (int64_t d = D; d < D + Simd<T>::width; ++d) {  // lanes beyond D add 1 / infinity
      offset_[d] = T(__builtin_inf());
      query_[d] = 0;
    }
  }

  // Begins the scores of a query e^2q (D,): folds the weights into it, and determines how many terms of each block
  // can share a denominator. key_top (D,): an elementwise upper bound of the keys.
  void begin(const T* query, const T* key_top) {
    T *folded = query_.get(), *offset = offset_.get();
    for (int64_t d = 0; d < D_; ++d) folded[d] = query[d] * offset[d];
    all_four_ = true;
    for (int64_t b = 0; b < D_ / block; ++b) {
      Vec<T> top[4];
      for (int i = 0; i < 4; ++i) {
        const int64_t d = b * block + i * Simd<T>::width;
        const Vec<T> x = load(key_top + d) * load(folded + d) + load(offset + d);
        top[i] = vmax(x, -x);
      }
      const Vec<T> xy = top[0] * top[1], uv = top[2] * top[3];
      // The limits leave room for the numerators: a product of three factors may exceed that of four by 1 / unit.
      terms_[b] = largest<T>(xy * uv) < Simd<T>::largest_of_four           ? Terms::four
                  : largest<T>(vmax(xy, uv)) < Simd<T>::largest_of_two ? Terms::two
                                                                       : Terms::plain;
      all_four_ = all_four_ && terms_[b] == Terms::four;
    }
    if (D_ % block >= pair) pair_together_ = pair_fits(key_top, D_ / block * block);
  }

  // The scores (M,) of keys e^2k (M, D) for the query given to `begin`.
  void scores(const T* keys, T* out, int64_t M) const {
    for (int64_t m = 0; m < M; m += Rows) {
      // Prefetch no further than the last key: prefetching pages that were never touched is slow.
      const int64_t ahead = (M - m - Rows) * D_ >= distance ? distance : 0, size = M - m < Rows ? M - m : Rows;
      some({keys + m * D_, size, D_}, size, ahead, out + m);
    }
  }

  // The same of keys that lie anywhere.
  void scores(const T* const* keys, T* out, int64_t M) const {
    for (int64_t m = 0; m < M; m += Rows) {
      const int64_t size = M - m < Rows ? M - m : Rows;
      some({keys + m, size}, size, 0, out + m);
    }
  }

  // Whether the score decreases as this element of a key increases.
  bool falls(int64_t d) const { return offset_[d] < 0; }

  // Two computed scores whose exact values are equal differ by less than this. Each of the D / width terms of a lane
  // is rounded a few times, relative to its own size, which is at most that of its weight.
  T slack() const {
    return 4 * Simd<T>::epsilon * T(D_ / Simd<T>::width + 16) * (sizes_ + T(D_) * Simd<T>::least_weight * largest_);
  }

 private:
  static constexpr int64_t block = 4 * Simd<T>::width, pair = 2 * Simd<T>::width;
  static constexpr int Rows = 4;
  static constexpr int64_t distance = 4096 / sizeof(T);  // of a prefetch: as long as a key takes to come, and a little more

  // Whether the terms of two vectors from d on can share a denominator.
  bool pair_fits(const T* key_top, int64_t d) const {
    const int64_t e = d + Simd<T>::width;
    const Vec<T> x = load(key_top + d) * load(query_.get() + d) + load(offset_.get() + d);
    const Vec<T> y = load(key_top + e) * load(query_.get() + e) + load(offset_.get() + e);
    const Vec<T> xy = x * y;
    return largest<T>(vmax(xy, -xy)) < Simd<T>::largest_of_two;
  }

  void some(const Keys<T, Rows>& keys, int64_t size, int64_t ahead, T* out) const {
    if (all_four_) rows<true>(keys, size, ahead, out);
    else rows<false>(keys, size, ahead, out);
  }

  // `Four`: all blocks put four terms over one denominator, so the sums stay in registers.
  template <bool Four>
  SAB_OUTLINE void rows(const Keys<T, Rows>& keys, int64_t size, int64_t ahead, T* out) const {
    constexpr int W = Simd<T>::width;
    Vec<T> sums[Rows] = {};
    int64_t d = 0;
    for (; d + block <= D_; d += block) {
      const T *query = query_.get() + d, *offset = offset_.get() + d;
      if (Four) {
        block_rows<T, Rows, Terms::four>(keys, d, ahead, query, offset, sums);
        continue;
      }
      switch (terms_[d / block]) {
        case Terms::four: block_rows<T, Rows, Terms::four>(keys, d, ahead, query, offset, sums); break;
        case Terms::two: block_rows<T, Rows, Terms::two>(keys, d, ahead, query, offset, sums); break;
        default: block_rows<T, Rows, Terms::plain>(keys, d, ahead, query, offset, sums);
      }
    }
    if (d + pair <= D_) {
      pair_rows<T, Rows>(keys, d, ahead, query_.get() + d, offset_.get() + d, pair_together_, sums);
      d += pair;
    }
    for (; d < D_; d += W) {
      const Vec<T> q = load(query_.get() + d), c = load(offset_.get() + d);
      for (int r = 0; r < Rows; ++r) sums[r] += T(1) / multiply_add(load<T>(keys.key[r] + d, D_ - d), q, c);
    }
    T terms[Rows];
    sum_four<T>(sums, terms);
    for (int r = 0; r < size; ++r) out[r] = total_ - 2 * largest_ * (Simd<T>::unit * terms[r]);
  }

  int64_t D_;
  Buffer<T> offset_, query_;
  Buffer<Terms> terms_;
  T largest_ = 0, total_ = 0, sizes_ = 0;  // of the weights: the largest size, the sum, the sum of sizes
  bool all_four_ = true, pair_together_ = true;
};

template <class T, int Rows>
SAB_OUTLINE void dot_rows(const Keys<T, Rows>& keys, int64_t size, const T* query, T scale, T* scores, int64_t D) {
  Vec<T> sum_[Rows] = {};
  for (int64_t d = 0; d < D; d += Simd<T>::width) {
    const Vec<T> q = load<T>(query + d, D - d);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sum_[r] = multiply_add(load<T>(keys.key[r] + d, D - d), q, sum_[r]);
  }
  T total[Rows];
  for (int r = 0; r < Rows; r += 4) sum_four<T>(sum_ + r, total + r);
  for (int r = 0; r < size; ++r) scores[r] = scale * total[r];
}

template <class T>
void dot_scores(const T* keys, const T* query, T scale, T* scores, int64_t M, int64_t D) {
  constexpr int rows = 8;
  for (int64_t m = 0; m < M; m += rows) {
    const int64_t size = M - m < rows ? M - m : rows;
    dot_rows<T, rows>({keys + m * D, size, D}, size, query, scale, scores + m, D);
  }
}

// The same of keys that lie anywhere.
template <class T>
void dot_scores(const T* const* keys, const T* query, T scale, T* scores, int64_t M, int64_t D) {
  constexpr int rows = 8;
  for (int64_t m = 0; m < M; m += rows) {
    const int64_t size = M - m < rows ? M - m : rows;
    dot_rows<T, rows>({keys + m, size}, size, query, scale, scores + m, D);
  }
}

// The bounds (n,) on the scores of groups; nodes (n, 2, D): the maximum and the minimum of their keys, elementwise.
template <class T>
void dot_bounds(const T* const* nodes, const T* query, T scale, T* bounds, int64_t n, int64_t D) {
  for (int64_t i = 0; i < n; ++i) {
    Vec<T> sum_ = {};
    for (int64_t d = 0; d < D; d += Simd<T>::width) {
      const Vec<T> q = load<T>(query + d, D - d);
      sum_ += vmax(load<T>(nodes[i] + d, D - d) * q, load<T>(nodes[i] + D + d, D - d) * q);
    }
    bounds[i] = scale * sum<T>(sum_);
  }
}

// One score that receives gradient.
template <class T>
struct Credit {
  const T* key;  // (D,)
  T d;           // the gradient of the score
  T* d_key;      // (D,): where the key's gradient is added
};

// Writes d_query; adds to d_w and to the d_keys.
template <class T>
void additive_backward(const Credit<T>* credit, int64_t size, const T* query, const T* w, T* d_query, T* d_w,
                       int64_t D) {
  for (int64_t d = 0; d < D; d += Simd<T>::width) {
    const int64_t lanes = D - d;
    const Vec<T> q = load<T>(query + d, lanes), scale = T(4) * load<T>(w + d, lanes);
    Vec<T> sum_ = {}, sum_w = load<T>(d_w + d, lanes);
    for (int64_t i = 0; i < size; ++i) {
      const Vec<T> r = T(1) / (load<T>(credit[i].key + d, lanes) * q + T(1));
      const Vec<T> d_z = credit[i].d * scale * (r - r * r);  // 1 - tanh^2 = 4 r (1 - r)
      sum_w += credit[i].d * (T(1) - (r + r));
      sum_ += d_z;
      store<T>(credit[i].d_key + d, load<T>(credit[i].d_key + d, lanes) + d_z, lanes);
    }
    store<T>(d_query + d, sum_, lanes);
    store<T>(d_w + d, sum_w, lanes);
  }
}

template <class T>
void dot_backward(const Credit<T>* credit, int64_t size, const T* query, T scale, T* d_query, int64_t D) {
  for (int64_t d = 0; d < D; d += Simd<T>::width) {
    const int64_t lanes = D - d;
    const Vec<T> q = scale * load<T>(query + d, lanes);
    Vec<T> sum_ = {};
    for (int64_t i = 0; i < size; ++i) {
      sum_ += credit[i].d * load<T>(credit[i].key + d, lanes);
      store<T>(credit[i].d_key + d, load<T>(credit[i].d_key + d, lanes) + credit[i].d * q, lanes);
    }
    store<T>(d_query + d, scale * sum_, lanes);
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
