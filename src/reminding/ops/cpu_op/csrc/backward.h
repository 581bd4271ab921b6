// The backward time loop over a few rows of the batch. It visits live (step, row) pairs only. Weight gradients and
// d_x are products over many pairs: a block of pairs is gathered, and multiplied while it is still in cache.
#pragma once

#include "cells.h"
#include "outer.h"
#include "recall.h"
#include "keyed.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
class Backward {
 public:
  Backward(const BackwardArgs<T>& args, int64_t begin, int64_t end)
      : a(args), p(args.problem), begin_(begin), rows_(end - begin), d_h_(rows_ * p.H), d_c_(rows_ * p.H),
        d_hat_(rows_ * p.H), d_summary_(p.H), spare_(p.H), carry_(rows_ * p.H), credit_(p.T > 0 ? p.k_top + 1 : 0),
        d_score_(p.T > 0 ? p.k_top + 1 : 0), d_gates_(outer_block * gate_stride()),
        d_queries_(outer_block * query_stride()),
        hat_(keyed() ? outer_block * p.H : 0), masked_(a.factor != nullptr ? outer_block * p.H : 0),
        d_masked_(a.factor != nullptr ? rows_ * p.H : 0), outer_(outer_columns()) {}

  void run() {
    for (int64_t i = 0; i < rows_ * p.H; ++i) carry_[i] = d_c_[i] = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      count_[r] = a.count0[batch(r)];
      cuts_[r] = count_cuts(r);
      if (p.has_c() && a.d_c_T != nullptr) copy(d_c_.get() + r * p.H, a.d_c_T + batch(r) * p.H);
    }
    for (int64_t t = p.T - 1; t >= 0; --t) step(t);
    multiply_block();
    for (int64_t r = 0; r < rows_; ++r) finish(r);
  }

 private:
  bool keyed() const { return p.keyed(); }
  int64_t gate_stride() const { return outer_stride<T>(p.gates()); }
  int64_t query_stride() const { return outer_stride<T>(p.D); }
  int64_t outer_columns() const { return packed_size<T>(1, a.inputs) + packed_size<T>(1, p.H); }
  // The rows of d_gates and d_query in the block for row r at the current step.
  T* d_gates(int64_t r) const { return d_gates_.get() + in_block_[r] * gate_stride(); }
  T* d_query(int64_t r) const { return d_queries_.get() + in_block_[r] * query_stride(); }
  T* d_score(int64_t r) const { return a.d_score + batch(r) * p.score_width(); }
  int64_t batch(int64_t r) const { return begin_ + r; }
  int64_t local(int64_t r) const { return begin_ + r - a.first_row; }
  int64_t steps_done(int64_t t, int64_t r) const { return a.step0[batch(r)] + t; }
  int64_t place(int64_t t, int64_t r) const { return t * p.B + batch(r); }
  int64_t pair(int64_t t, int64_t r) const { return a.pair[t * a.rows + local(r)]; }
  int64_t touched(int64_t m, int64_t r) const { return a.touched[local(r) * p.M + m]; }
  // Saved tensors are (rows, T, .), replayed ones (N, .).
  int64_t kept(int64_t t, int64_t r) const { return a.compact ? pair(t, r) : local(r) * p.T + t; }
  const T* key(int64_t m, int64_t r) const {
    return a.keys + (a.compact ? touched(m, r) : local(r) * p.M + m) * p.D;
  }
  const T* memory(int64_t m, int64_t r) const { return a.memory + (batch(r) * p.M + m) * p.H; }
  const T* factor(int64_t t, int64_t r) const {
    return a.factor + (a.past.entry != nullptr ? place(t, r) : batch(r)) * p.H;
  }
  const T* h_before(int64_t t, int64_t r) const {
    if (a.past.enters(place(t, r))) return a.past.entering_h(p, place(t, r));
    return t > 0 ? a.output + place(t - 1, r) * p.H : a.h0 + batch(r) * p.H;
  }
  bool cut(int64_t t, int64_t r) const { return a.past.cuts(p, place(t, r), steps_done(t, r)); }
  int64_t stored_slot(int64_t t, int64_t r, int64_t copy) const {
    return a.past.slot(p, place(t, r), copy, steps_done(t, r), a.step0[batch(r)], count_[r]);
  }
  static void zero(T* to, int64_t size) { __builtin_memset(to, 0, sizeof(T) * static_cast<size_t>(size)); }
  void copy(T* to, const T* from) const { __builtin_memcpy(to, from, sizeof(T) * static_cast<size_t>(p.H)); }
  void add(T* to, const T* x) const { add(to, x, p.H); }
  void add(T* to, const T* x, int64_t size) const {
    for (int64_t j = 0; j < size; j += Simd<T>::width)
      store<T>(to + j, load<T>(to + j, size - j) + load<T>(x + j, size - j), size - j);
  }

  int64_t count_cuts(int64_t r) const {
    int64_t cuts = 0;
    for (int64_t t = 0; t < p.T; ++t) cuts += cut(t, r);
    return cuts;
  }

  const T* c_before(int64_t t, int64_t r) const {
    if (!p.has_c()) return nullptr;
    if (a.past.enters(place(t, r))) return a.past.entering_c(p, place(t, r));
    if (t == 0) return a.c0 + batch(r) * p.H;
    if (a.compact && a.entering_c != nullptr && cut(t, r)) return a.entering_c + (batch(r) * a.max_cuts + cuts_[r] - 1) * p.H;
    return a.cells + kept(t - 1, r) * p.H;
  }

  void step(int64_t t) {
    if (pairs_ + rows_ > outer_block) multiply_block();
    live_ = 0;
    for (int64_t r = 0; r < rows_; ++r)
      if (pair(t, r) >= 0) row_[live_++] = r;
    if (live_ > 0) {
      for (int64_t i = 0; i < live_; ++i) add_pair(t, row_[i]);
      collect(t);
      for (int64_t i = 0; i < live_; ++i) recall(t, row_[i]);
      if (p.stores_proposal()) collect_memories(t);
      through_queries(t);
      through_cell(t);
    }
    for (int64_t r = 0; r < rows_; ++r) cuts_[r] -= cut(t, r);
  }

  // Adds a pair to the block.
  void add_pair(int64_t t, int64_t r) {
    x_[pairs_] = a.x + place(t, r) * a.inputs;
    d_x_[pairs_] = a.d_x != nullptr ? a.d_x + place(t, r) * a.inputs : nullptr;
    h_before_[pairs_] = h_before(t, r);
    if (a.factor != nullptr) {
      T* masked = masked_.get() + pairs_ * p.H;
      times<T>(masked, h_before_[pairs_], factor(t, r), p.H);
      h_before_[pairs_] = masked;
    }
    in_block_[r] = pairs_++;
  }

  // Adds the block's part of the weight gradients, and writes its d_x.
  void multiply_block() {
    const OuterFactor<T> x{x_, a.inputs, a.sums.input}, h{h_before_, p.H, a.sums.hidden};
    if (p.cell == Cell::gru) {  // W_hn h + b_hn has a gradient of its own, the fourth
      const OuterFactor<T> h_n{h_before_, p.H, a.sums.hidden + 2 * p.H * p.H};
      outer_.add(d_gates_.get(), gate_stride(), 3 * p.H, &x, 1, pairs_);
      outer_.add(d_gates_.get(), gate_stride(), 2 * p.H, &h, 1, pairs_);
      outer_.add(d_gates_.get() + 3 * p.H, gate_stride(), p.H, &h_n, 1, pairs_);
    } else {
      const OuterFactor<T> both[] = {x, h};
      outer_.add(d_gates_.get(), gate_stride(), p.gates(), both, 2, pairs_);
    }
    if (keyed()) {
      const T* hat[outer_block];
      for (int64_t i = 0; i < pairs_; ++i) hat[i] = hat_.get() + i * p.H;
      const OuterFactor<T> query{hat, p.H, a.sums.query};
      outer_.add(d_queries_.get(), query_stride(), p.D, &query, 1, pairs_);
    }
    if (a.d_x != nullptr) multiply_input();
    pairs_ = 0;
  }

  void multiply_input() {
    const T* from[max_rows];
    for (int64_t first = 0; first < pairs_; first += max_rows) {
      const int64_t size = pairs_ - first < max_rows ? pairs_ - first : max_rows;
      for (int64_t i = 0; i < size; ++i) from[i] = d_gates_.get() + (first + i) * gate_stride();
      gemm<T>(size, from, a.packed.input, d_x_ + first, p.recurrent(), a.inputs, false);
    }
  }

  // d_h: the gradient of this step's output, from later steps, from the loss, and from the memory that it became. A
  // memory of h_hat adds to d_hat instead.
  void collect(int64_t t) {
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i];
      T* d_h = d_h_.get() + r * p.H;
      copy(d_h, carry_.get() + r * p.H);
      if (a.d_output != nullptr) add(d_h, a.d_output + place(t, r) * p.H);
    }
    if (!p.stores_proposal()) collect_memories(t);
  }

  // Adds the gradient of the memory that each step's h, or h_hat, became; that of a past step may be two, see Past.
  void collect_memories(int64_t t) {
    const int64_t copies = a.past.stored != nullptr ? Past<T>::slots_per_step : 1;
    for (int64_t copy = 0; copy < copies; ++copy) collect_memories(t, copy);
  }

  void collect_memories(int64_t t, int64_t copy) {
    const T* from[max_rows];
    T* to[max_rows];
    int64_t stored = 0;
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i];
      T* d_h = (p.stores_proposal() ? d_hat_ : d_h_).get() + r * p.H;
      const int64_t m = stored_slot(t, r, copy), s = m >= 0 ? touched(m, r) : -1;
      if (s < 0) continue;
      add(d_h, a.d_recalled + s * p.H);
      if (!p.backtrack) continue;
      if (!p.has_keys()) {
        // The memory, not h: those of past steps are not exactly their replayed h.
        tanh_dot_backward(a.d_keys[s], a.score + p.H, memory(m, r), d_score(r) + p.H, d_h, p.H);
        a.d_keys[s] = 0;  // so that `finish` adds only the memories that no live step stored
      } else {
        from[stored] = a.d_keys + s * p.D;
        to[stored++] = d_h;
      }
    }
    if (stored > 0) gemm<T>(stored, from, a.packed.memory, to, p.D, p.H, true);
  }

  // d_hat <- the gradient of h_hat, without the part that comes through the query.
  void recall(int64_t t, int64_t r) {
    const int64_t at = place(t, r);
    T* d_hat = d_hat_.get() + r * p.H;
    copy(d_hat, d_h_.get() + r * p.H);
    if (keyed() && a.inverse[at] == T(no_recall)) zero(d_query(r), p.D);
    if (p.k_top == 0 || a.inverse[at] == T(no_recall)) return;
    T* d_summary = d_summary_.get();
    copy(d_summary, d_hat);
    if (a.d_summary != nullptr) add(d_summary, a.d_summary + at * p.H);
    const int32_t* slots = a.slots + at * p.k_top;
    const T* weights = a.weights + at * p.k_top;
    if (p.gated())
      gate_backward(slots, weights, memory(0, r), a.score + p.gate_place(), d_summary, d_score(r) + p.gate_place(),
                    p.k_top, p.H);
    int64_t size = 0;
    for (; size < p.k_top && slots[size] >= 0; ++size) {
      d_score_[size] = dot(d_summary, memory(slots[size], r), p.H);
      if (p.backtrack) credit_memory(a.d_recalled + touched(slots[size], r) * p.H, weights[size], d_summary);
    }
    const T edge = weigh_backward(p, weights, a.inverse[at], d_score_.get(), size);
    for (int64_t i = 0; p.has_null() && i < size; ++i) d_score(r)[p.null_place()] -= d_score_[i];
    const bool has_edge = a.edge[at] >= 0;
    if (has_edge) d_score_[size] = edge;
    score(t, r, slots, size, has_edge ? a.edge[at] : -1);
  }

  void credit_memory(T* d_memory, T weight, const T* d_summary) const {
    for (int64_t j = 0; j < p.H; j += Simd<T>::width)
      store<T>(d_memory + j, load<T>(d_memory + j, p.H - j) + weight * load<T>(d_summary + j, p.H - j), p.H - j);
  }

  void score(int64_t t, int64_t r, const int32_t* slots, int64_t size, int32_t edge) {
    const int64_t scored = edge >= 0 ? size + 1 : size;
    if (!p.has_keys()) return keyless(t, r, slots, size, edge);
    for (int64_t i = 0; i < scored; ++i) {
      const int32_t m = i < size ? slots[i] : edge;
      credit_[i] = {key(m, r), d_score_[i], a.d_keys + touched(m, r) * p.D};
    }
    const T* query = a.queries + kept(t, r) * p.D;
    KeyedScore<T>::backward(p, credit_.get(), scored, query, a.score, d_query(r), d_score(r));
  }

  // The gradient of a memory's half of its score is added up in one number per slot. The query's half receives the
  // sum over memories, which is 0 except with raw weights and softmax1.
  void keyless(int64_t t, int64_t r, const int32_t* slots, int64_t size, int32_t edge) {
    T total = 0;
    for (int64_t i = 0; i < size; ++i) {
      a.d_keys[touched(slots[i], r)] += d_score_[i];
      total += d_score_[i];
    }
    if (edge >= 0) a.d_keys[touched(edge, r)] += d_score_[size];
    if (a.inverse[place(t, r)] != T(raw_weights) && p.normalizer != Normalizer::softmax1) return;
    write_hat(t, r, spare_.get());
    tanh_dot_backward(total, a.score, spare_.get(), d_score(r), d_hat_.get() + r * p.H, p.H);
  }

  // Recovers h_hat from the output, which is h_hat + summary.
  void write_hat(int64_t t, int64_t r, T* to) const {
    const T *h = a.output + place(t, r) * p.H, *s = a.summary + place(t, r) * p.H;
    for (int64_t j = 0; j < p.H; j += Simd<T>::width)
      store<T>(to + j, load<T>(h + j, p.H - j) - load<T>(s + j, p.H - j), p.H - j);
  }

  void through_queries(int64_t t) {
    if (!keyed()) return;
    const T* from[max_rows];
    T* to[max_rows];
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i];
      from[i] = d_query(r);
      to[i] = d_hat_.get() + r * p.H;
      write_hat(t, r, hat_.get() + in_block_[r] * p.H);
    }
    gemm<T>(live_, from, a.packed.query, to, p.D, p.H, true);
  }

  void through_cell(int64_t t) {
    const T* from[max_rows];
    T* to[max_rows];
    int64_t row[max_rows], uncut = 0;
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i];
      T *d_gates = this->d_gates(r), *carry = carry_.get() + r * p.H, *d_c = d_c_.get() + r * p.H;
      const T* c = p.has_c() ? a.cells + kept(t, r) * p.H : nullptr;
      if (a.d_c != nullptr) add(d_c, a.d_c + place(t, r) * p.H);
      cell_backward<T>(p, {a.gates + kept(t, r) * p.gates(), d_gates, h_before(t, r), c_before(t, r), c,
                           d_hat_.get() + r * p.H, d_c, carry});
      add(a.d_bias + batch(r) * p.gates(), d_gates, p.gates());
      if (cut(t, r)) {
        zero(carry, p.H);
        zero(d_c, p.H);
      } else {
        row[uncut] = r;
        from[uncut] = d_gates;
        to[uncut++] = a.factor != nullptr ? d_masked_.get() + r * p.H : carry;
      }
    }
    if (uncut == 0) return;
    through_weights(uncut, from, to);
    for (int64_t i = 0; i < uncut && a.factor != nullptr; ++i) unmask(t, row[i]);
  }

  // From the gradients of the gates to that of h as the weights saw it. To the carry of a GRU it is added.
  void through_weights(int64_t size, const T** from, T* const* to) const {
    if (p.cell != Cell::gru) return gemm<T>(size, from, a.packed.hidden, to, p.gates(), p.H, false);
    gemm<T>(size, from, a.packed.hidden, to, 2 * p.H, p.H, a.factor == nullptr);
    for (int64_t i = 0; i < size; ++i) from[i] += 3 * p.H;
    gemm<T>(size, from, a.packed.hidden + packed_size<T>(2 * p.H, p.H), to, p.H, p.H, true);
  }

  // From the gradient of the masked h to the carry.
  void unmask(int64_t t, int64_t r) const {
    T *carry = carry_.get() + r * p.H, *d_masked = d_masked_.get() + r * p.H;
    if (p.cell != Cell::gru) return times<T>(carry, d_masked, factor(t, r), p.H);
    times<T>(d_masked, d_masked, factor(t, r), p.H);
    add(carry, d_masked);
  }

  // The carried gradients are now those of the initial state. A keyless score still lacks the gradients from memories
  // that no live step stored or, if backtrack is off, from all memories.
  void finish(int64_t r) {
    const int64_t b = batch(r);
    copy(a.d_h0 + b * p.H, carry_.get() + r * p.H);
    if (p.has_c()) copy(a.d_c0 + b * p.H, d_c_.get() + r * p.H);
    if (keyed()) return multiply_keys(r);
    if (p.k_top == 0) return;
    for (int64_t m = 0; m < p.M; ++m) {
      const int64_t s = touched(m, r);
      if (s < 0 || a.d_keys[s] == 0) continue;
      T* d_memory = p.backtrack ? a.d_recalled + s * p.H : nullptr;
      tanh_dot_backward(a.d_keys[s], a.score + p.H, memory(m, r), d_score(r) + p.H, d_memory, p.H);
    }
  }

  // Adds row r's part of the gradient of W1, from the gradients of its keys.
  void multiply_keys(int64_t r) {
    const T* value[outer_block];
    const OuterFactor<T> factor{value, p.H, a.sums.memory};
    int64_t size = 0, first = -1;
    for (int64_t m = 0; m < p.M; ++m) {
      const int64_t s = touched(m, r);  // the touched slots of a row are numbered consecutively
      if (s < 0) continue;
      if (size == 0) first = s;
      value[size++] = memory(m, r);
      if (size < outer_block) continue;
      outer_.add(a.d_keys + first * p.D, p.D, p.D, &factor, 1, size);
      size = 0;
    }
    if (size > 0) outer_.add(a.d_keys + first * p.D, p.D, p.D, &factor, 1, size);
  }

  const BackwardArgs<T>& a;
  const Problem& p;
  const int64_t begin_, rows_;
  Buffer<T> d_h_, d_c_, d_hat_, d_summary_, spare_, carry_;
  Buffer<Credit<T>> credit_;
  Buffer<T> d_score_;
  Buffer<T> d_gates_, d_queries_, hat_, masked_;  // one row for each pair of the block
  Buffer<T> d_masked_;
  Outer<T> outer_;
  const T *x_[outer_block], *h_before_[outer_block];
  T* d_x_[outer_block];
  int64_t pairs_ = 0, in_block_[max_rows];  // pairs in the block; where each row's current pair is
  int64_t live_ = 0, row_[max_rows];
  int64_t count_[max_rows], cuts_[max_rows];
};

template <class T>
void backward(const BackwardArgs<T>& args, int64_t begin, int64_t end) {
  Backward<T>(args, begin, end).run();
}

// Activates the recomputed gates of the live pairs, oldest first. The live steps of a segment are always its first
// ones, so c is known at each.
template <class T>
void replay(const ReplayArgs<T>& a, int64_t begin, int64_t end) {
  const Problem& p = a.problem;
  for (int64_t b = begin; b < end; ++b) {
    int64_t cuts = 0;
    const T* c = p.has_c() ? a.c0 + b * p.H : nullptr;
    for (int64_t t = 0; t < p.T; ++t) {
      const int64_t at = t * p.B + b;
      if (a.past.cuts(p, at, a.step0[b] + t)) {
        if (a.entering_c != nullptr) c = a.entering_c + (b * a.max_cuts + cuts) * p.H;
        ++cuts;
      }
      const int64_t n = a.pair[t * a.rows + b - a.first_row];
      if (n < 0) continue;
      const T* h = t > 0 ? a.output + (at - p.B) * p.H : a.h0 + b * p.H;
      if (a.past.enters(at)) {
        h = a.past.entering_h(p, at);
        c = p.has_c() ? a.past.entering_c(p, at) : nullptr;
      }
      T* c_next = p.has_c() ? a.cells + n * p.H : nullptr;
      cell_forward<T>(p, {a.gates + n * p.gates(), h, c, c_next, a.h_hat + n * p.H});
      c = c_next;
    }
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
