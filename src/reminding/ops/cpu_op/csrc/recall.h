// What one row recalls at one step, given its scores: ranking, weights, summary, and the gradient of the weights.
//
// Shapes: M memories, H hidden, K k_top.
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

// The best scores, largest first; the older slot comes first in a tie.
template <class T>
struct Ranking {
  T* score;        // (ranks,)
  int32_t* slot;   // (ranks,)
  int64_t size;    // filled ranks

  bool full(int64_t ranks) const { return size == ranks; }

  bool has(int32_t at) const {
    for (int64_t i = 0; i < size; ++i)
      if (slot[i] == at) return true;
    return false;
  }

  // Whether a score ranks before the one at rank i.
  bool before(T value, int32_t at, int64_t i) const {
    return value > score[i] || (value == score[i] && at < slot[i]);
  }

  bool insert(T value, int32_t at, int64_t ranks) {
    if (size == ranks) {
      if (!before(value, at, size - 1)) return false;
    } else {
      ++size;
    }
    int64_t i = size - 1;
    for (; i > 0 && before(value, at, i - 1); --i) {
      score[i] = score[i - 1];
      slot[i] = slot[i - 1];
    }
    score[i] = value;
    slot[i] = at;
    return true;
  }
};

// Whether any element is true.
template <class Mask>
SAB_INLINE bool any(const Mask& mask) {
  typedef int64_t Wide __attribute__((vector_size(SAB_VECTOR_BYTES)));
  Wide bits;
  __builtin_memcpy(&bits, &mask, sizeof(bits));
  int64_t any = 0;
  for (int i = 0; i < SAB_VECTOR_BYTES / 8; ++i) any |= bits[i];
  return any != 0;
}

// Whether any element of 8 vectors is above the limit. Their maximum is taken first, so that one branch serves all 8.
template <class T>
SAB_INLINE bool any_above(const T* scores, T limit) {
  constexpr int W = Simd<T>::width;
  const Vec<T> most = vmax(vmax(vmax(load(scores), load(scores + W)), vmax(load(scores + 2 * W), load(scores + 3 * W))),
                           vmax(vmax(load(scores + 4 * W), load(scores + 5 * W)),
                                vmax(load(scores + 6 * W), load(scores + 7 * W))));
  return any(most > fill<T>(limit));
}

// A score as an integer. Integers compare as the scores do, and NaN has a place among them too.
template <class T>
SAB_INLINE typename Simd<T>::Bits ordered(T score) {
  score += 0;  // -0 is 0
  typename Simd<T>::Bits bits;
  __builtin_memcpy(&bits, &score, sizeof(bits));
  return bits >= 0 ? bits : bits ^ static_cast<typename Simd<T>::Bits>(~(uint64_t(1) << (8 * sizeof(bits) - 1)));
}

// Whether slot a comes before slot b in a ranking.
template <class T>
SAB_INLINE bool ranks_before(const T* scores, int32_t a, int32_t b) {
  const auto first = ordered(scores[a]), second = ordered(scores[b]);
  return first > second || (first == second && a < b);
}

// Restores the heap below `at`. In the heap, a slot ranks after both of its children.
template <class T>
void sift(int32_t* heap, int64_t size, int64_t at, const T* scores) {
  const int32_t moved = heap[at];
  for (int64_t child; (child = 2 * at + 1) < size; at = child) {
    if (child + 1 < size && ranks_before(scores, heap[child], heap[child + 1])) ++child;
    if (!ranks_before(scores, moved, heap[child])) break;
    heap[at] = heap[child];
  }
  heap[at] = moved;
}

// Ranks all of the first `size` scores by a heap sort; inserting them one by one would take quadratic time.
template <class T>
void sort_scores(Ranking<T>& best, const T* scores, int64_t size) {
  best.size = size;
  for (int64_t i = 0; i < size; ++i) best.slot[i] = static_cast<int32_t>(i);
  for (int64_t i = size / 2 - 1; i >= 0; --i) sift(best.slot, size, i, scores);
  for (int64_t last = size - 1; last > 0; --last) {
    const int32_t largest = best.slot[0];
    best.slot[0] = best.slot[last];
    best.slot[last] = largest;
    sift(best.slot, last, 0, scores);
  }
  for (int64_t i = 0; i < size; ++i) best.score[i] = scores[best.slot[i]];
}

template <class T>
void rank_scores(Ranking<T>& best, const T* scores, int64_t M, int64_t ranks) {
  constexpr int64_t W = Simd<T>::width, block = 8 * W, inserted = 64;
  const int64_t first = M < ranks ? M : ranks;
  best.size = 0;
  if (first > inserted) sort_scores(best, scores, first);
  int64_t m = best.size;
  for (; m < M && best.size < ranks; ++m) best.insert(scores[m], static_cast<int32_t>(m), ranks);
  while (m < M) {
    const bool whole = m + block <= M;
    if (whole && !any_above(scores + m, best.score[ranks - 1])) {
      m += block;
      continue;
    }
    for (const int64_t end = whole ? m + block : M; m < end; m += W) {
      const int64_t lanes = end - m < W ? end - m : W;
      if (lanes == W && !any(load(scores + m) > fill<T>(best.score[ranks - 1]))) continue;
      for (int64_t i = m; i < m + lanes; ++i) best.insert(scores[i], static_cast<int32_t>(i), ranks);
    }
  }
}

// Where the recall of one row at one step is written; `slots` and `weights` (K,). Behind the slots that have a weight stand
// those of the K best that have none, each as -2 - slot, then -1.
template <class T>
struct Recall {
  int32_t *slots, *edge;
  T *weights, *inverse;

  void clear(int64_t K) const {
    for (int64_t i = 0; i < K; ++i) {
      slots[i] = -1;
      weights[i] = 0;
    }
    *edge = -1;
    *inverse = no_recall;
  }
};

// w = relu(a - limit) / (sum + epsilon) over the first `size` ranks. `edge`: the slot whose score is the limit.
template <class T>
void threshold_weights(const Ranking<T>& best, int64_t size, T limit, T epsilon, int32_t edge, int64_t K,
                       const Recall<T>& at) {
  T total = 0;
  int64_t kept = 0;
  for (; kept < size && best.score[kept] > limit; ++kept) total += best.score[kept] - limit;
  if (!(total > 0)) kept = 0;
  for (int64_t i = kept; i < best.size && i < K; ++i) at.slots[i] = -2 - best.slot[i];
  if (kept == 0) return;
  *at.inverse = 1 / (total + epsilon);
  *at.edge = edge;
  for (int64_t i = 0; i < kept; ++i) {
    at.slots[i] = best.slot[i];
    at.weights[i] = (best.score[i] - limit) / (total + epsilon);  // whose inverse may overflow
  }
}

// `nothing`: whether recalling nothing is a choice too (softmax1). `offset`: see `normalize`.
template <class T>
void softmax_weights(const Ranking<T>& best, bool nothing, T offset, const Recall<T>& at) {
  const T first = best.score[0] + offset, most = nothing && first < 0 ? T(0) : first;
  T total = nothing ? exp_<T>(fill<T>(-most))[0] : T(0);
  for (int64_t i = 0; i < best.size; ++i) {
    const Vec<T> power = exp_<T>(fill<T>(best.score[i] + offset - most));
    at.slots[i] = best.slot[i];
    total += at.weights[i] = power[0];
  }
  for (int64_t i = 0; i < best.size; ++i) at.weights[i] /= total;
  *at.inverse = 1;
}

// `offset` is to be added to every score (the query's half of the separable score, less the null score). Only raw
// weights and softmax1 depend on it.
template <class T>
void normalize(const Problem& p, const Ranking<T>& best, int64_t M, T offset, const Recall<T>& at) {
  if (best.size == 0) return;
  const bool release = p.semantics == Semantics::release;
  const int64_t last = (release && best.size > p.k_top ? p.k_top : best.size) - 1;
  if (p.normalizer != Normalizer::threshold)
    return softmax_weights(best, p.normalizer == Normalizer::softmax1, offset, at);
  if (!release || M > p.k_top) {
    const T epsilon = release ? T(1e-7) : T(0);
    return threshold_weights(best, last, best.score[last] + epsilon, epsilon, best.slot[last], p.k_top, at);
  }
  *at.inverse = raw_weights;
  for (int64_t i = 0; i < best.size; ++i) {
    at.slots[i] = best.slot[i];
    at.weights[i] = best.score[i] + offset;
  }
}

template <class T>
void weigh(const Problem& p, const Ranking<T>& best, int64_t M, T offset, const Recall<T>& at) {
  at.clear(p.k_top);
  normalize(p, best, M, offset, at);
  if (p.recall_scale == 1) return;
  for (int64_t i = 0; i < p.k_top; ++i) at.weights[i] *= T(p.recall_scale);
}

// One vector of the sum of weight * memory (M, H), from element j on; slots and weights (K,).
template <class T>
SAB_INLINE Vec<T> weighted_sum(const int32_t* slots, const T* weights, const T* memory, int64_t K, int64_t H,
                               int64_t j) {
  Vec<T> s = {};
  for (int64_t i = 0; i < K && slots[i] >= 0; ++i) s += weights[i] * load<T>(memory + slots[i] * H + j, H - j);
  return s;
}

// summary <- gate * the sum of weight * memory; gate (H,) or null.
template <class T>
void summarize(const Recall<T>& at, const T* memory, const T* gate, T* summary, int64_t K, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const Vec<T> s = weighted_sum(at.slots, at.weights, memory, K, H, j);
    store<T>(summary + j, gate != nullptr ? s * load<T>(gate + j, H - j) : s, H - j);
  }
}

// d_summary <- the gradient of the sum that the gate multiplies; adds to d_gate (H,).
template <class T>
void gate_backward(const int32_t* slots, const T* weights, const T* memory, const T* gate, T* d_summary, T* d_gate,
                   int64_t K, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    const Vec<T> d = load<T>(d_summary + j, lanes), s = weighted_sum(slots, weights, memory, K, H, j);
    store<T>(d_gate + j, load<T>(d_gate + j, lanes) + d * s, lanes);
    store<T>(d_summary + j, d * load<T>(gate + j, lanes), lanes);
  }
}

template <class T>
T dot(const T* a, const T* b, int64_t H) {
  Vec<T> s = {};
  for (int64_t j = 0; j < H; j += Simd<T>::width) s += load<T>(a + j, H - j) * load<T>(b + j, H - j);
  return sum<T>(s);
}

// d_weights (size,) <- d_scores; returns the gradient of the score that is the threshold.
template <class T>
T weigh_backward(const Problem& p, const T* weights, T inverse, T* d_weights, int64_t size) {
  const T recall_scale = T(p.recall_scale);
  T mean = 0, edge = 0;
  for (int64_t i = 0; i < size; ++i) {
    mean += weights[i] * d_weights[i] / recall_scale;
    if (inverse == T(raw_weights)) d_weights[i] *= recall_scale;
  }
  if (inverse == T(raw_weights)) return 0;
  for (int64_t i = 0; i < size; ++i) {
    const T scale = p.normalizer == Normalizer::threshold ? inverse * recall_scale : weights[i];
    d_weights[i] = scale * (d_weights[i] - mean);
    edge -= d_weights[i];
  }
  return p.normalizer == Normalizer::threshold ? edge : T(0);
}

}  // namespace SAB_ISA
}  // namespace reminding
