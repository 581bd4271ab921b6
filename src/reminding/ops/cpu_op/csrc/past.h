// Steps of past calls run forward again, as they are laid out for the backward pass: many segments side by side. What a
// step reads was recorded; weights and states are made anew.
#pragma once

#include "cells.h"
#include "gemm.h"
#include "recall.h"
#include "keyed.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
class PastForward {
 public:
  PastForward(const PastForwardArgs<T>& args, int64_t begin, int64_t end)
      : a(args), p(args.problem), begin_(begin), rows_(end - begin),
        masked_(a.factor != nullptr ? rows_ * p.H : 0), keys_(a.ranks * p.D), key_top_(p.D),
        scores_(a.ranks + 1), best_score_(a.ranks + 1), best_slot_(a.ranks + 1), keyed_(p, args.score) {}

  void run() {
    int64_t longest = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t at = place(0, r);
      longest = count(r) > longest ? count(r) : longest;
      peak(r)[0] = peak(r)[1] = 0;
      h_[r] = count(r) > 0 ? a.past.entering_h(p, at) : nullptr;
      c_[r] = count(r) > 0 && p.has_c() ? a.past.entering_c(p, at) : nullptr;
    }
    for (int64_t s = 0; s < longest; ++s) step(s);
  }

 private:
  int64_t count(int64_t r) const { return a.count[begin_ + r]; }
  int64_t column(int64_t r) const { return a.column[begin_ + r]; }
  int64_t place(int64_t s, int64_t r) const { return (a.start[begin_ + r] + s) * p.B + column(r); }
  T* peak(int64_t r) const { return a.peak + (begin_ + r) * 2; }
  T* memory(int64_t slot, int64_t r) const { return a.memory + (column(r) * p.M + slot) * p.H; }
  int32_t touched(int64_t slot, int64_t r) const { return a.touched[column(r) * p.M + slot]; }
  static void raise(T& peak, T value) { peak = value > peak ? value : peak; }

  void step(int64_t s) {
    live_ = 0;
    for (int64_t r = 0; r < rows_; ++r)
      if (s < count(r)) row_[live_++] = r;
    run_cells(s);
    if (p.keyed()) make_queries(s);
    for (int64_t i = 0; i < live_; ++i) recall(s, row_[i]);
    if (a.own >= 0) remember(s);
  }

  // output <- h_hat
  void run_cells(int64_t s) {
    const T *from[max_rows], *x[max_rows];
    T* to[max_rows];
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t at = place(s, row_[i]);
      x[i] = a.x + at * a.inputs;
      from[i] = entering(at, row_[i]);
      to[i] = a.gates + a.pair[at] * p.gates();
      __builtin_memcpy(to[i], a.bias, sizeof(T) * static_cast<size_t>(p.gates()));
    }
    gemm<T>(live_, x, a.packed.input, to, a.inputs, p.recurrent(), true);
    if (p.cell == Cell::gru) {
      gemm<T>(live_, from, a.packed.hidden, to, p.H, 2 * p.H, true);
      for (int64_t i = 0; i < live_; ++i) to[i] += 3 * p.H;
      gemm<T>(live_, from, a.packed.hidden + packed_size<T>(p.H, 2 * p.H), to, p.H, p.H, true);
    } else {
      gemm<T>(live_, from, a.packed.hidden, to, p.H, p.gates(), true);
    }
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i], at = place(s, r), n = a.pair[at];
      T* c = p.has_c() ? a.cells + n * p.H : nullptr;
      cell_forward<T>(p, {a.gates + n * p.gates(), h_[r], c_[r], c, a.output + at * p.H});
      h_[r] = a.output + at * p.H;
      c_[r] = c;
    }
  }

  // The segment's h as the cell's weights see it at a place.
  const T* entering(int64_t at, int64_t r) const {
    if (a.factor == nullptr) return h_[r];
    T* masked = masked_.get() + r * p.H;
    times<T>(masked, h_[r], a.factor + at * p.H, p.H);
    return masked;
  }

  void make_queries(int64_t s) {
    const T* from[max_rows];
    T* to[max_rows];
    for (int64_t i = 0; i < live_; ++i) {
      from[i] = h_[row_[i]];
      to[i] = a.queries + a.pair[place(s, row_[i])] * p.D;
    }
    gemm<T>(live_, from, a.packed.query, to, p.H, p.D, false);
  }

  void recall(int64_t s, int64_t r) {
    if (p.k_top == 0) return;
    const int64_t at = place(s, r);
    const int32_t* read = a.read + at * a.ranks;
    const int64_t most = p.k_top + (p.normalizer == Normalizer::threshold ? 1 : 0);
    int64_t size = 0;
    while (size < a.ranks && size < most && read[size] >= 0) ++size;
    const Recall<T> recall{a.slots + at * p.k_top, a.edge + at, a.weights + at * p.k_top, a.inverse + at};
    T* h = a.output + at * p.H;
    T offset = p.keyed() ? score(at, r, read, size) : score_keyless(at, r, read, size);
    // In states that were saved before 0.2, what set the threshold may stand in a row several times: then its scores are
    // all the same to the last bit.
    for (int64_t i = 0; i + 1 < size; ++i)
      if (read[i] == read[size - 1]) scores_[i] = scores_[size - 1];
    Ranking<T> best = {best_score_.get(), best_slot_.get(), 0};
    const int64_t ranks = size < p.ranks() ? size : p.ranks();
    for (int64_t i = 0; i < size; ++i) best.insert(scores_[i], read[i], ranks);
    if (p.has_null()) offset -= a.score[p.null_place()];
    weigh(p, best, size, offset, recall);
    T* summary = a.summary + at * p.H;
    summarize(recall, memory(0, r), p.gated() ? a.score + p.gate_place() : nullptr, summary, p.k_top, p.H);
    if (a.own >= 0 && p.stores_proposal()) keep(s, r);
    for (int64_t j = 0; j < p.H; j += Simd<T>::width)
      store<T>(h + j, load<T>(h + j, p.H - j) + load<T>(summary + j, p.H - j), p.H - j);
  }

  T score(int64_t at, int64_t r, const int32_t* read, int64_t size) {
    T* query = a.queries + a.pair[at] * p.D;
    raise(peak(r)[1], keyed_.prepare(query));
    T* top = key_top_.get();
    for (int64_t d = 0; d < p.D; ++d) top[d] = 0;
    for (int64_t i = 0; i < size; ++i) {
      T* key = keys_.get() + i * p.D;
      __builtin_memcpy(key, a.keys + touched(read[i], r) * p.D, sizeof(T) * static_cast<size_t>(p.D));
      keyed_.raise_top(top, key);
    }
    keyed_.begin(query, top);
    keyed_.scores(keys_.get(), scores_.get(), size);
    return 0;
  }

  T score_keyless(int64_t at, int64_t r, const int32_t* read, int64_t size) {
    for (int64_t i = 0; i < size; ++i) scores_[i] = tanh_dot(a.score + p.H, memory(read[i], r), p.H);
    const bool raw = p.normalizer == Normalizer::threshold && p.semantics == Semantics::release && size <= p.k_top;
    return raw || p.normalizer == Normalizer::softmax1 ? tanh_dot(a.score, a.output + at * p.H, p.H) : T(0);
  }

  // What the step would store, which later ones of its segment may have read.
  void keep(int64_t s, int64_t r) const {
    __builtin_memcpy(memory(own_slot(s, r), r), h_[r], sizeof(T) * static_cast<size_t>(p.H));
  }

  int64_t own_slot(int64_t s, int64_t r) const { return a.own + a.start[begin_ + r] + s; }

  void remember(int64_t s) {
    const T* from[max_rows];
    T *to[max_rows], *peaks[max_rows];
    int64_t stored = 0;
    for (int64_t i = 0; i < live_; ++i) {
      const int64_t r = row_[i], slot = own_slot(s, r);
      if (!p.stores_proposal()) keep(s, r);
      if (!p.keyed() || touched(slot, r) < 0) continue;
      from[stored] = memory(slot, r);
      peaks[stored] = peak(r);
      to[stored++] = a.keys + touched(slot, r) * p.D;
    }
    if (stored == 0) return;
    gemm<T>(stored, from, a.packed.memory, to, p.H, p.D, false);
    for (int64_t i = 0; i < stored; ++i) raise(peaks[i][0], keyed_.prepare(to[i]));
  }

  const PastForwardArgs<T>& a;
  const Problem& p;
  const int64_t begin_, rows_;
  Buffer<T> masked_, keys_, key_top_, scores_, best_score_;
  Buffer<int32_t> best_slot_;
  KeyedScore<T> keyed_;
  const T *h_[max_rows], *c_[max_rows];
  int64_t live_ = 0, row_[max_rows];
};

template <class T>
void past_forward(const PastForwardArgs<T>& args, int64_t begin, int64_t end) {
  PastForward<T>(args, begin, end).run();
}

}  // namespace SAB_ISA
}  // namespace reminding
