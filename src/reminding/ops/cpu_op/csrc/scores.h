// Scores of all memories of one row, and the gradient of a few of them.
//
// The additive score rests on tanh(k + q) = 1 - 2 / (1 + e^2k e^2q): with e^2k kept per memory and e^2q computed once
// per step, a term costs a multiply-add and half a division, no tanh.
//
// Shapes: M memories, D score width, H hidden.
#pragma once

#include "problem.h"
#include "simd.h"

namespace reminding {
namespace SAB_ISA {

// x <- e^(2x), and returns the largest |x|. Beyond key_limit e^2x would leave the normal range.
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

// The first `lanes` offsets, then infinity.
template <class T>
SAB_INLINE Vec<T> tail_offset(const T* offset, int64_t lanes) {
  Vec<T> c = fill<T>(T(__builtin_inf()));
  for (int64_t i = 0; i < lanes && i < Simd<T>::width; ++i) c[i] = offset[i];
  return c;
}

// How the additive score's terms w / (1 + e^2k e^2q) are summed. Division is slow, so terms are put over a common
// denominator, as many as cannot overflow. Weights are folded in: w / (1 + kq) = 1 / (1/w + k (q/w)).
enum class Terms : char { four, two, plain };

// One block of 4 vectors of 1 / (key query + offset), for one memory.
template <class T, Terms terms>
SAB_INLINE Vec<T> block_terms(const T* key, const Vec<T>* q, const Vec<T>* c) {
  constexpr int W = Simd<T>::width;
  const Vec<T> x = load(key) * q[0] + c[0], y = load(key + W) * q[1] + c[1];
  const Vec<T> u = load(key + 2 * W) * q[2] + c[2], v = load(key + 3 * W) * q[3] + c[3];
  if (terms == Terms::plain) return T(1) / x + T(1) / y + T(1) / u + T(1) / v;
  const Vec<T> xy = x * y, uv = u * v;
  if (terms == Terms::two) return (x + y) / xy + (u + v) / uv;
  return ((x + y) * uv + (u + v) * xy) / (xy * uv);
}

template <class T, int Rows, Terms terms>
SAB_INLINE void block_rows(const T* keys, int64_t ahead, const T* query, const T* offset, Vec<T>* sums, int64_t D) {
  constexpr int W = Simd<T>::width;
  Vec<T> q[4], c[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    q[i] = load(query + i * W);
    c[i] = load(offset + i * W);
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    const T* key = keys + r * D;
    // Keys mostly come from L3, and rows are too short for the hardware to run far enough ahead.
    for (int i = 0; i < 4 * W; i += 64 / sizeof(T)) __builtin_prefetch(key + ahead + i);
    sums[r] += block_terms<T, terms>(key, q, c);
  }
}

// W3 prepared for `scores`. A weight 2^-26 (float) of the largest or less is raised to that: it cannot be seen in the
// sum, but its reciprocal could overflow.
template <class T>
class AdditiveWeights {
 public:
  AdditiveWeights(const T* w, int64_t D) : D_(D), offset_(D), query_(D), terms_(D / block + 1) {
    for (int64_t d = 0; d < D; ++d) {
      const T size = w[d] < 0 ? -w[d] : w[d];
      largest_ = size > largest_ ? size : largest_;
      total_ += w[d];
    }
    for (int64_t d = 0; d < D; ++d) {
      const T ratio = largest_ > 0 ? w[d] / largest_ : T(1);
      const T size = ratio < 0 ? -ratio : ratio;
      const T inverse = Simd<T>::unit / (size > Simd<T>::least_weight ? size : Simd<T>::least_weight);
      offset_[d] = ratio < 0 ? -inverse : inverse;
    }
  }

  // scores (M,) of keys e^2k (M, D) against one query e^2q (D,); key_top (D,): no key has a larger element.
  void scores(const T* keys, const T* query, const T* key_top, T* out, int64_t M) {
    prepare(query, key_top);
    int64_t m = 0;
    // Never ahead of the last key: behind it may lie pages nobody touched yet, and looking for those is slow.
    for (; m + 4 <= M; m += 4) {
      const int64_t ahead = m + 12 <= M ? 8 * D_ : 0;
      if (all_four_) rows<4, true>(keys + m * D_, ahead, out + m);
      else rows<4, false>(keys + m * D_, ahead, out + m);
    }
    for (; m < M; ++m) rows<1, false>(keys + m * D_, 0, out + m);
  }

 private:
  static constexpr int64_t block = 4 * Simd<T>::width;

  // Folds the weights into the query, and finds how many terms of each block can share a denominator.
  void prepare(const T* query, const T* key_top) {
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
      // The limits leave room for the numerators: a product of three may exceed that of four by 1 / unit.
      terms_[b] = largest<T>(xy * uv) < Simd<T>::largest_of_four           ? Terms::four
                  : largest<T>(vmax(xy, uv)) < Simd<T>::largest_of_two ? Terms::two
                                                                       : Terms::plain;
      all_four_ = all_four_ && terms_[b] == Terms::four;
    }
  }

  // `Four`: every block takes four terms at once, and the sums stay in registers.
  template <int Rows, bool Four>
  void rows(const T* keys, int64_t ahead, T* out) const {
    constexpr int W = Simd<T>::width;
    Vec<T> sums[Rows] = {};
    int64_t d = 0;
    for (; d + block <= D_; d += block) {
      const T *query = query_.get() + d, *offset = offset_.get() + d;
      if (Four) {
        block_rows<T, Rows, Terms::four>(keys + d, ahead, query, offset, sums, D_);
        continue;
      }
      switch (terms_[d / block]) {
        case Terms::four: block_rows<T, Rows, Terms::four>(keys + d, ahead, query, offset, sums, D_); break;
        case Terms::two: block_rows<T, Rows, Terms::two>(keys + d, ahead, query, offset, sums, D_); break;
        default: block_rows<T, Rows, Terms::plain>(keys + d, ahead, query, offset, sums, D_);
      }
    }
    for (; d < D_; d += W) {  // lanes behind D are 1 / infinity
      const Vec<T> q = load<T>(query_.get() + d, D_ - d), c = tail_offset<T>(offset_.get() + d, D_ - d);
      for (int r = 0; r < Rows; ++r) sums[r] += T(1) / (load<T>(keys + r * D_ + d, D_ - d) * q + c);
    }
    for (int r = 0; r < Rows; ++r) out[r] = total_ - 2 * largest_ * (Simd<T>::unit * sum<T>(sums[r]));
  }

  int64_t D_;
  Buffer<T> offset_, query_;
  Buffer<Terms> terms_;
  T largest_ = 0, total_ = 0;
  bool all_four_ = true;
};

template <class T, int Rows>
SAB_INLINE void dot_rows(const T* keys, int64_t ahead, const T* query, T scale, T* scores, int64_t D) {
  Vec<T> sum_[Rows] = {};
  for (int64_t d = 0; d < D; d += Simd<T>::width) {
    const Vec<T> q = load<T>(query + d, D - d);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) __builtin_prefetch(keys + ahead + r * D + d);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sum_[r] += load<T>(keys + r * D + d, D - d) * q;
  }
  for (int r = 0; r < Rows; ++r) scores[r] = scale * sum<T>(sum_[r]);
}

template <class T>
void dot_scores(const T* keys, const T* query, T scale, T* scores, int64_t M, int64_t D) {
  int64_t m = 0;
  // As in the additive score, never ahead of the last key.
  for (; m + 8 <= M; m += 8) dot_rows<T, 8>(keys + m * D, m + 16 <= M ? 8 * D : 0, query, scale, scores + m, D);
  for (; m < M; ++m) dot_rows<T, 1>(keys + m * D, 0, query, scale, scores + m, D);
}

// w . tanh(x), half of the separable score.
template <class T>
T tanh_dot(const T* w, const T* x, int64_t H) {
  Vec<T> sum_ = {};
  for (int64_t j = 0; j < H; j += Simd<T>::width) sum_ += load<T>(w + j, H - j) * tanh_(load<T>(x + j, H - j));
  return sum<T>(sum_);
}

template <class T>
T largest_size(const T* x, int64_t size) {
  Vec<T> most = {};
  for (int64_t i = 0; i < size; i += Simd<T>::width) {
    const Vec<T> v = load<T>(x + i, size - i);
    most = vmax(vmax(v, -v), most);
  }
  return largest<T>(most);
}

// w . tanh(k + q)
template <class T>
T additive_score(const T* w, const T* k, const T* q, int64_t D) {
  Vec<T> sum_ = {};
  for (int64_t d = 0; d < D; d += Simd<T>::width)
    sum_ += load<T>(w + d, D - d) * tanh_(load<T>(k + d, D - d) + load<T>(q + d, D - d));
  return sum<T>(sum_);
}

// Gradient d of tanh_dot: d_w += d tanh(x), d_x += d w (1 - tanh(x)^2); d_x may be null.
template <class T>
void tanh_dot_backward(T d, const T* w, const T* x, T* d_w, T* d_x, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    const Vec<T> y = tanh_(load<T>(x + j, lanes));
    store<T>(d_w + j, load<T>(d_w + j, lanes) + d * y, lanes);
    if (d_x != nullptr)
      store<T>(d_x + j, load<T>(d_x + j, lanes) + d * load<T>(w + j, lanes) * (T(1) - y * y), lanes);
  }
}

// Scores with a gradient: key (D,), the gradient d of the score, where the key's gradient goes (D,).
template <class T>
struct Credit {
  const T* key;
  T d;
  T* d_key;
};

// d_query is written, d_w and the d_keys are added to.
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

// A score that compares a key per memory with a query per step: the one place that tells such scores apart. A new one
// is a case in each of these functions, and its code in problem.h.
template <class T>
class KeyedScore {
 public:
  KeyedScore(const Problem& p, const T* weight)
      : score_(p.score), D_(p.D), scale_(scale(p)), weight_(weight),
        additive_(weight, p.score == Score::additive ? p.D : 0) {}

  // A key or query (D,) as it is compared from now on; returns the largest |x| where the score is exact within limits.
  T prepare(T* x) const { return score_ == Score::additive ? exponentiate(x, D_) : T(0); }

  // Whether `scores` is not exact for a query (D,) that is not prepared, and keys of which `key_peak` is the largest |x|:
  // one clamped exponent still leaves tanh at +-1, two may not.
  bool out_of_range(const T* query, T key_peak) const {
    if (score_ != Score::additive) return false;
    constexpr T clamp = Simd<T>::key_limit, saturated = 20;
    const T query_peak = largest_size(query, D_);
    const T smaller = query_peak < key_peak ? query_peak : key_peak;
    const T larger = query_peak < key_peak ? key_peak : query_peak;
    return smaller > clamp - saturated && larger > clamp;
  }

  // The score of one key and one query, neither prepared.
  T score(const T* key, const T* query) const { return additive_score(weight_, key, query, D_); }

  // scores (M,) of prepared keys (M, D) and query (D,); key_top (D,): no key has a larger element.
  void scores(const T* keys, const T* query, const T* key_top, T* out, int64_t M) {
    if (score_ == Score::dot) return dot_scores(keys, query, scale_, out, M, D_);
    additive_.scores(keys, query, key_top, out, M);
  }

  // d_query is written; the gradient of W3, if the score has it, and the d_keys are added to.
  static void backward(const Problem& p, const Credit<T>* credit, int64_t size, const T* query, const T* weight,
                       T* d_query, T* d_weight) {
    if (p.score == Score::dot) return dot_backward(credit, size, query, scale(p), d_query, p.D);
    additive_backward(credit, size, query, weight, d_query, d_weight, p.D);
  }

 private:
  static T scale(const Problem& p) { return T(1) / T(__builtin_sqrt(double(p.D > 0 ? p.D : 1))); }

  Score score_;
  int64_t D_;
  T scale_;
  const T* weight_;
  AdditiveWeights<T> additive_;
};

}  // namespace SAB_ISA
}  // namespace reminding
