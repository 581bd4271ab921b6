// A score that compares one key per memory with one query per step, and what a search needs of it.
//
// Shapes: M memories, D score width.
#pragma once

#include "scores.h"

namespace reminding {
namespace SAB_ISA {

// The square of the distance between two points (D,).
template <class T>
T square_distance(const T* a, const T* b, int64_t D) {
  Vec<T> total = {};
  for (int64_t d = 0; d < D; d += Simd<T>::width) {
    const Vec<T> x = load<T>(a + d, D - d) - load<T>(b + d, D - d);
    total = multiply_add(x, x, total);
  }
  return sum<T>(total);
}

// A score that compares one key per memory with one query per step. Only this class distinguishes such scores: a new
// one needs a case in each of its functions, and a code in problem.h.
template <class T>
class KeyedScore {
 public:
  KeyedScore(const Problem& p, const T* weight)
      : score_(p.score), D_(p.D), scale_(scale(p)), weight_(weight),
        additive_(weight, p.score == Score::additive ? p.D : 0) {}

  // Converts a key or query (D,) into the form in which it is compared. Returns the largest |x| if the score is exact
  // only within limits, else 0.
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

  // Begins the scores of a prepared query (D,), which must not move until they are done. key_top (D,): an elementwise
  // upper bound of the keys, or of their absolute values for a dot product.
  void begin(const T* query, const T* key_top) {
    query_ = query;
    if (score_ == Score::additive) return additive_.begin(query, key_top);
    T size = 0;
    for (int64_t d = 0; d < D_; ++d) size += (query[d] < 0 ? -query[d] : query[d]) * key_top[d];
    size_ = scale_ * size;
  }

  // Updates the bound that `begin` needs, key_top, with one more key.
  void raise_top(T* top, const T* key) const {
    for (int64_t d = 0; d < D_; ++d) {
      const T size = score_ == Score::dot && key[d] < 0 ? -key[d] : key[d];
      top[d] = size > top[d] ? size : top[d];
    }
  }

  // The scores (M,) of prepared keys (M, D).
  void scores(const T* keys, T* out, int64_t M) const {
    if (score_ == Score::dot) return dot_scores(keys, query_, scale_, out, M, D_);
    additive_.scores(keys, out, M);
  }

  // The same of keys that lie anywhere.
  void scores(const T* const* keys, T* out, int64_t M) const {
    if (score_ == Score::dot) return dot_scores(keys, query_, scale_, out, M, D_);
    additive_.scores(keys, out, M);
  }

  // A point (D,) for a prepared key, such that keys that are near have similar scores for any query.
  void place(const T* key, T* out) const {
    for (int64_t d = 0; d < D_; d += Simd<T>::width) {
      const Vec<T> k = load<T>(key + d, D_ - d);
      if (score_ == Score::dot) store<T>(out + d, k, D_ - d);
      else store<T>(out + d, load<T>(weight_ + d, D_ - d) * (T(1) - T(2) / (k + T(1))), D_ - d);
    }
  }

  // A bound is the key of a group: its score is at least that of every member, up to rounding.
  int64_t bound_width() const { return score_ == Score::dot ? 2 * D_ : D_; }

  // Extends the bound (bound_width,) by one more key (D,), or begins it with this key.
  void widen(T* bound, const T* key, bool alone) const {
    if (score_ == Score::dot) return extend(bound, key, key, alone);
    extend(bound, key, nullptr, alone);
  }

  // Extends a bound by another one, or begins it with that.
  void unite(T* bound, const T* other, bool alone) const {
    extend(bound, other, score_ == Score::dot ? other + D_ : nullptr, alone);
  }

  // The scores (n,) of bounds (bound_width,) each.
  void bounds(const T* const* bounds, T* out, int64_t n) const {
    if (score_ == Score::dot) return dot_bounds(bounds, query_, scale_, out, n, D_);
    additive_.scores(bounds, out, n);
  }

  // By rounding, a member's score may exceed that of its bound, but by less than this.
  T slack() const {
    if (score_ == Score::dot) return 4 * Simd<T>::epsilon * T(D_ / Simd<T>::width + 16) * size_;
    return additive_.slack();
  }

  int64_t width() const { return D_; }

  // Writes d_query; adds to the d_keys and, if the score has a W3, to its gradient.
  static void backward(const Problem& p, const Credit<T>* credit, int64_t size, const T* query, const T* weight,
                       T* d_query, T* d_weight) {
    if (p.score == Score::dot) return dot_backward(credit, size, query, scale(p), d_query, p.D);
    additive_backward(credit, size, query, weight, d_query, d_weight, p.D);
  }

 private:
  void extend(T* bound, const T* most, const T* least, bool alone) const {
    if (alone) {
      __builtin_memcpy(bound, most, sizeof(T) * static_cast<size_t>(D_));
      if (least != nullptr) __builtin_memcpy(bound + D_, least, sizeof(T) * static_cast<size_t>(D_));
    } else if (least != nullptr) {
      for (int64_t d = 0; d < D_; ++d) {
        bound[d] = most[d] > bound[d] ? most[d] : bound[d];
        bound[D_ + d] = least[d] < bound[D_ + d] ? least[d] : bound[D_ + d];
      }
    } else {
      for (int64_t d = 0; d < D_; ++d) bound[d] = (most[d] < bound[d]) == additive_.falls(d) ? most[d] : bound[d];
    }
  }

  static T scale(const Problem& p) { return T(1) / T(__builtin_sqrt(double(p.D > 0 ? p.D : 1))); }

  Score score_;
  int64_t D_;
  T scale_, size_ = 0;  // size_: an upper bound of the query's |scores|
  const T* query_ = nullptr;
  const T* weight_;
  AdditiveWeights<T> additive_;
};

}  // namespace SAB_ISA
}  // namespace reminding
