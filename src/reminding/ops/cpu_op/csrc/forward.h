// The forward time loop over a few rows of the batch. Rows are independent: the keys of these few stay in cache
// through all steps, and threads share out the rows without a barrier per step.
#pragma once

#include "cells.h"
#include "gemm.h"
#include "recall.h"
#include "keyed.h"
#include "search.h"
#include "window.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
class Forward {
 public:
  Forward(const ForwardArgs<T>& args, int64_t begin, int64_t end)
      : a(args), p(args.problem), begin_(begin), rows_(end - begin), ahead_(max_rows / rows_),
        masked_(a.factor != nullptr ? rows_ * p.H : 0), spare_gates_(a.gates == nullptr ? ahead_ * rows_ * p.gates() : 0),
        spare_c_(rows_ * p.H), spare_query_(rows_ * p.D), key_top_(rows_ * p.D), scores_(p.M),
        best_score_(rows_ * p.filled_ranks()), best_slot_(rows_ * p.filled_ranks()),
        keyless_(p.has_keys() || a.kept != nullptr ? 0 : rows_ * p.M), place_slots_(places_move() ? rows_ * p.M : 0),
        place_keys_(places_move() ? rows_ * p.M * p.D : 0), spare_key_(p.D),
        keyed_(p, args.score), trees_(a.kept != nullptr ? BoundTrees<T>(p, keyed_, rows_, a.kept->trees, begin)
                                 : BoundTrees<T>(p, keyed_, rows_, p.M)) {}

  void run() {
    for (int64_t r = 0; r < rows_; ++r) start(r);
    for (int64_t t = 0; t < p.T && any_runs(t); ++t) step(t);
    for (int64_t r = 0; r < rows_; ++r) finish(r);
  }

 private:
  int64_t length(int64_t r) const { return a.lengths != nullptr ? a.lengths[batch(r)] : p.T; }
  // Whether any row has step t. Those that do come first.
  bool any_runs(int64_t t) {
    while (running_ > 0 && length(running_ - 1) <= t) --running_;
    return running_ > 0;
  }
  int64_t batch(int64_t r) const { return begin_ + r; }
  int64_t local(int64_t r) const { return begin_ + r - a.first_row; }
  T* memory(int64_t r) const { return a.memory + batch(r) * p.M * p.H; }
  T* next_slot(int64_t r) const { return memory(r) + count_[r] * p.H; }
  void copy(T* to, const T* from) const { __builtin_memcpy(to, from, sizeof(T) * static_cast<size_t>(p.H)); }
  T* keys(int64_t r) const { return a.keys + local(r) * p.M * p.D; }
  // (M,): the memories' part of a keyless score.
  T* terms(int64_t r) const { return a.kept != nullptr ? a.keys + local(r) * p.M : keyless_.get() + r * p.M; }
  T* peak(int64_t r) const { return a.peak + batch(r) * 2; }
  static void raise(T& peak, T value) { peak = value > peak ? value : peak; }
  T* output(int64_t t, int64_t r) const { return a.output + (t * p.B + batch(r)) * p.H; }
  T* gates(int64_t t, int64_t r) const {
    if (a.gates != nullptr) return a.gates + (local(r) * p.T + t) * p.gates();
    return spare_gates_.get() + (t % ahead_ * rows_ + r) * p.gates();
  }
  T* query(int64_t t, int64_t r) const {
    return a.queries != nullptr ? a.queries + (local(r) * p.T + t) * p.D : spare_query_.get() + r * p.D;
  }
  T* cell(int64_t t, int64_t r) const {
    return a.cells != nullptr ? a.cells + (local(r) * p.T + t) * p.H : spare_c_.get() + r * p.H;
  }
  // Whether evictions can leave gaps, so that places differ from slots. Kept memories move themselves.
  bool places_move() const { return a.kept == nullptr && p.bounded() && p.evict == Evict::least_recalled; }
  T* received(int64_t r) const { return a.received + batch(r) * p.M; }
  Ranking<T> ranking(int64_t r) const {
    return {best_score_.get() + r * p.filled_ranks(), best_slot_.get() + r * p.filled_ranks(), best_size_[r]};
  }

  void start(int64_t r) {
    const int64_t b = batch(r);
    steps_done_[r] = a.step0[b];
    count_[r] = a.count0[b];
    h_[r] = a.h0 + b * p.H;
    c_[r] = p.has_c() ? a.c0 + b * p.H : nullptr;
    cuts_[r] = 0;
    for (int64_t d = 0; d < p.D; ++d) key_top_[r * p.D + d] = 0;
    peak(r)[0] = peak(r)[1] = 0;
    best_size_[r] = 0;
    if (p.k_top == 0) return;
    if (a.kept != nullptr) return go_on(r);
    window_[r].keys = places_move() ? place_keys_.get() + r * p.M * p.D : keys(r);
    window_[r].slots = places_move() ? place_slots_.get() + r * p.M : nullptr;
    for (int64_t m = 0; m < count_[r]; ++m) admit(r, m);
  }

  // The row's memories as the call before left them.
  void go_on(int64_t r) {
    const int64_t b = batch(r);
    Window<T>& window = window_[r];
    window.keys = keys(r);
    window.first = a.kept->window[2 * b];
    window.end = count_[r] = a.kept->window[2 * b + 1];
    const T* tops = a.kept->tops + b * (p.D + 1);
    for (int64_t d = 0; d < p.D; ++d) key_top_[r * p.D + d] = tops[d];
    peak(r)[0] = tops[p.D];
    if (!p.has_keys()) rank_again(r);
    trees_.go_on(r, window.first, window.end);
  }

  // Leaves the row's memories for the call after.
  void keep(int64_t r) {
    const int64_t b = batch(r);
    a.kept->window[2 * b] = window_[r].first;
    a.kept->window[2 * b + 1] = window_[r].end;
    T* tops = a.kept->tops + b * (p.D + 1);
    for (int64_t d = 0; d < p.D; ++d) tops[d] = key_top_[r * p.D + d];
    tops[p.D] = peak(r)[0];
    trees_.keep(r);
  }

  // Makes a stored memory, whose key W1 m is in its slot, available for recall.
  void admit(int64_t r, int64_t m) {
    if (p.has_keys()) prepare_key(r, m);
    else rank_keyless(r, m);
    window_[r].append(m, keys(r) + m * p.D, p.D);
    trees_.append(r, m);
  }

  void finish(int64_t r) {
    const int64_t b = batch(r);
    if (p.has_c()) copy(a.c_T + b * p.H, c_[r]);
    if (a.kept != nullptr) {
      if (p.k_top > 0) keep(r);
      return;
    }
    for (int64_t i = count_[r] * p.H; i < p.M * p.H; ++i) memory(r)[i] = 0;
    for (int64_t i = count_[r] * p.D; i < p.M * p.D; ++i) keys(r)[i] = 0;
    if (!p.bounded()) return;
    const int64_t size = window_[r].size(), width = p.most_alive();
    for (int64_t i = 0; i < width; ++i)
      a.alive[b * width + i] = i < size ? window_[r].slot(window_[r].first + i) : count_[r];
  }

  void step(int64_t t) {
    run_cell(t);
    if (p.k_top > 0 && p.has_keys()) make_queries(t);
    for (int64_t r = 0; r < running_; ++r) {
      if (a.kept != nullptr && p.stores(steps_done_[r])) move_to_front(r);
      recall(t, r);
    }
    remember(t);
    for (int64_t r = 0; r < running_; ++r) ++steps_done_[r];
  }

  // output <- h_hat
  void run_cell(int64_t t) {
    const T* from[max_rows];
    T* to[max_rows];
    for (int64_t r = 0; r < running_; ++r) {
      from[r] = entering(r);
      to[r] = gates(t, r);
      keep_entering_c(r);
      keep_milestone(t, r);
    }
    if (t % ahead_ == 0) project(t);
    if (p.cell == Cell::gru) {
      gemm<T>(running_, from, a.packed.hidden, to, p.H, 2 * p.H, true);
      for (int64_t r = 0; r < running_; ++r) to[r] += 3 * p.H;
      gemm<T>(running_, from, a.packed.hidden + packed_size<T>(p.H, 2 * p.H), to, p.H, p.H, true);
    } else {
      gemm<T>(running_, from, a.packed.hidden, to, p.H, p.gates(), true);
    }
    for (int64_t r = 0; r < running_; ++r) {
      T* c = p.has_c() ? cell(t, r) : nullptr;
      cell_forward<T>(p, {gates(t, r), h_[r], c_[r], c, output(t, r)});
      h_[r] = output(t, r);
      c_[r] = c;
    }
  }

  // The row's h as the cell's weights see it.
  const T* entering(int64_t r) const {
    if (a.factor == nullptr) return h_[r];
    T* masked = masked_.get() + r * p.H;
    times<T>(masked, h_[r], a.factor + batch(r) * p.H, p.H);
    return masked;
  }

  // The input's part of the gates, for a few steps at once: enough rows for full tiles, few enough to be in cache
  // when the hidden state's part is added.
  void project(int64_t first) const {
    const T* from[max_rows];
    T* to[max_rows];
    int64_t size = 0;
    for (int64_t t = first; t < first + ahead_ && t < p.T; ++t) {
      for (int64_t r = 0; r < running_ && t < length(r); ++r) {
        from[size] = a.x + (t * p.B + batch(r)) * a.inputs;
        to[size++] = gates(t, r);
        __builtin_memcpy(gates(t, r), a.bias, sizeof(T) * static_cast<size_t>(p.gates()));
      }
    }
    gemm<T>(size, from, a.packed.input, to, a.inputs, p.recurrent(), true);
  }

  // Saves c at a cut, where replay starts. h need not be saved: it is the output of the step before.
  void keep_entering_c(int64_t r) {
    if (a.entering_c == nullptr || !p.cuts(steps_done_[r])) return;
    copy(a.entering_c + (batch(r) * a.max_cuts + cuts_[r]++) * p.H, c_[r]);
  }

  void keep_milestone(int64_t t, int64_t r) const {
    if (a.milestones == nullptr || t % a.stride != a.offset) return;
    copy(a.milestones + (t / a.stride * p.B + batch(r)) * p.H, c_[r]);
  }

  void make_queries(int64_t t) {
    T* to[max_rows];
    for (int64_t r = 0; r < running_; ++r) to[r] = query(t, r);
    gemm<T>(running_, h_, a.packed.query, to, p.H, p.D, false);
  }

  void recall(int64_t t, int64_t r) {
    const int64_t at = t * p.B + batch(r);
    T* summary = a.summary + at * p.H;
    const Recall<T> recall{a.slots + at * p.k_top, a.edge + at, a.weights + at * p.k_top, a.inverse + at};
    Ranking<T> best = ranking(r);
    const Window<T>& window = window_[r];
    T offset = 0;
    if (!p.has_keys()) {
      const bool raw = p.normalizer == Normalizer::threshold && p.semantics == Semantics::release &&
                       window.size() <= p.k_top;
      if (best.size > 0 && (raw || p.normalizer == Normalizer::softmax1)) offset = tanh_dot(a.score, output(t, r), p.H);
    } else if (p.k_top > 0) {
      rank(t, r, best);
    }
    if (p.has_null()) offset -= a.score[p.null_place()];
    weigh(p, best, window.size(), offset, recall);
    if (a.behind != nullptr) a.behind[at] = p.k_top > 0 && best.size > p.k_top ? best.slot[p.k_top] : -1;
    if (a.kept != nullptr && a.kept->recalled != nullptr) name_steps(r, recall, a.kept->recalled + at * p.k_top);
    if (p.bounded())
      for (int64_t i = 0; i < p.k_top && recall.slots[i] >= 0; ++i) received(r)[recall.slots[i]] += recall.weights[i];
    summarize(recall, memory(r), p.gated() ? a.score + p.gate_place() : nullptr, summary, p.k_top, p.H);
    T* h = output(t, r);
    if (p.stores_proposal() && p.stores(steps_done_[r])) copy(next_slot(r), h);
    for (int64_t j = 0; j < p.H; j += Simd<T>::width)
      store<T>(h + j, load<T>(h + j, p.H - j) + load<T>(summary + j, p.H - j), p.H - j);
  }

  // A memory may move before the call ends, so what was recalled is told by its step.
  void name_steps(int64_t r, const Recall<T>& recall, int64_t* steps) const {
    for (int64_t i = 0; i < p.k_top; ++i)
      steps[i] = recall.slots[i] < 0 ? 0 : a.kept->steps[batch(r) * p.M + recall.slots[i]];
  }

  // The slots with the best scores.
  void rank(int64_t t, int64_t r, Ranking<T>& best) {
    T* q = query(t, r);
    const Window<T>& window = window_[r];
    if (a.kept != nullptr && keyed_.out_of_range(q, peak(r)[0])) {
      score_anew(r, q);
    } else {
      raise(peak(r)[1], keyed_.prepare(q));
      keyed_.begin(q, key_top_.get() + r * p.D);
      if (search(r, best)) return;
      keyed_.scores(window.keys + window.first * p.D, scores_.get(), window.size());
    }
    rank_scores(best, scores_.get(), window.size(), p.ranks());
    if (!p.bounded() && window.first == 0) return;
    for (int64_t i = 0; i < best.size; ++i) best.slot[i] = window.slot(window.first + best.slot[i]);
  }

  bool search(int64_t r, Ranking<T>& best) {
    const Window<T>& window = window_[r];
    return trees_.search(r, keys(r), places_move() ? 0 : window.first, window.size(), best);
  }

  // Without the keys, whose range the score has left. A stream has no other code to fall back on halfway.
  void score_anew(int64_t r, const T* q) {
    const Window<T>& window = window_[r];
    for (int64_t place = 0; place < window.size(); ++place) {
      const T* from[] = {memory(r) + (window.first + place) * p.H};
      T* to[] = {spare_key_.get()};
      gemm<T>(1, from, a.packed.memory, to, p.H, p.D, false);
      scores_[place] = keyed_.score(spare_key_.get(), q);
    }
  }

  void remember(int64_t t) {
    const T* from[max_rows];
    T* to[max_rows];
    int64_t row[max_rows], stored = 0;
    for (int64_t r = 0; r < running_; ++r) {
      if (!p.stores(steps_done_[r])) continue;
      if (p.bounded()) make_room(r);
      if (a.kept != nullptr) a.kept->steps[batch(r) * p.M + count_[r]] = steps_done_[r] + 1;
      if (!p.stores_proposal()) copy(next_slot(r), output(t, r));
      from[stored] = next_slot(r);
      to[stored] = keys(r) + count_[r] * p.D;
      row[stored++] = r;
    }
    if (p.has_keys()) gemm<T>(stored, from, a.packed.memory, to, p.H, p.D, false);
    for (int64_t i = 0; i < stored; ++i) admit(row[i], count_[row[i]]++);
  }

  // Makes room for one more memory: evicts one if the row is full.
  void make_room(int64_t r) {
    if (a.kept != nullptr) make_room_among_kept(r);
    else evict(r);
    received(r)[count_[r]] = 0;
  }

  void evict(int64_t r) {
    Window<T>& window = window_[r];
    if (window.size() < p.capacity) return;
    const int64_t place = p.evict == Evict::fifo ? window.first : window.least_recalled(received(r));
    const int32_t slot = window.slot(place);
    window.remove(place, p.D);
    trees_.remove(r, slot);
    if (!p.has_keys() && ranking(r).has(slot)) rank_again(r);
  }

  void make_room_among_kept(int64_t r) {
    Window<T>& window = window_[r];
    if (window.size() == p.capacity && p.evict == Evict::fifo) {
      trees_.remove(r, window.first++);
    } else if (window.size() == p.capacity) {
      const int64_t place = window.least_recalled(received(r));
      if (place - window.first <= window.end - 1 - place) {
        move(r, window.first + 1, window.first, place - window.first);
        ++window.first;
      } else {
        move(r, place, place + 1, window.end - place);  // with what the step has put behind the last
        --window.end;
      }
    }
    count_[r] = window.end;
    if (!p.has_keys()) rank_again(r);
  }

  // Moves kept memories to the front where the last slot is taken, so that the step finds one to store in.
  void move_to_front(int64_t r) {
    Window<T>& window = window_[r];
    if (window.end < p.M || !p.bounded()) return;
    move(r, 0, window.first, window.size());
    window.end = count_[r] = window.size();
    window.first = 0;
    if (!p.has_keys()) rank_again(r);
    trees_.build(r, 0, window.end);
  }

  void move(int64_t r, int64_t to, int64_t from, int64_t size) const {
    const auto shift = [&](auto* row, int64_t width) {
      __builtin_memmove(row + to * width, row + from * width, sizeof(*row) * static_cast<size_t>(size * width));
    };
    if (size == 0) return;
    shift(memory(r), p.H);
    shift(a.kept->steps + batch(r) * p.M, 1);
    shift(received(r), 1);
    if (p.has_keys()) shift(keys(r), p.D);
    else shift(terms(r), 1);
  }

  void prepare_key(int64_t r, int64_t m) {
    T* key = keys(r) + m * p.D;
    raise(peak(r)[0], keyed_.prepare(key));
    keyed_.raise_top(key_top_.get() + r * p.D, key);
  }

  // Keyless scores change only by an offset that all memories share, so a memory is ranked once, when it is stored.
  void rank_keyless(int64_t r, int64_t m) {
    Ranking<T> best = ranking(r);
    terms(r)[m] = tanh_dot(a.score + p.H, memory(r) + m * p.H, p.H);
    best.insert(terms(r)[m], static_cast<int32_t>(m), p.ranks());
    best_size_[r] = best.size;
  }

  // Ranks all remaining memories again: after an eviction, the ranking does not know which memory moves up.
  void rank_again(int64_t r) {
    Ranking<T> best = ranking(r);
    const Window<T>& window = window_[r];
    if (window.slots == nullptr) {
      rank_scores(best, terms(r) + window.first, window.size(), p.ranks());
      for (int64_t i = 0; i < best.size; ++i) best.slot[i] += static_cast<int32_t>(window.first);
    } else {
      best.size = 0;
      for (int64_t place = window.first; place < window.end; ++place)
        best.insert(terms(r)[window.slot(place)], window.slot(place), p.ranks());
    }
    best_size_[r] = best.size;
  }

  const ForwardArgs<T>& a;
  const Problem& p;
  const int64_t begin_, rows_, ahead_;  // ahead_: how many steps' inputs are projected at once
  int64_t running_ = rows_;             // the first so many rows have the current step
  Buffer<T> masked_, spare_gates_, spare_c_, spare_query_, key_top_, scores_, best_score_;
  Buffer<int32_t> best_slot_;
  Buffer<T> keyless_;  // (rows, M): the memories' halves of their scores
  Buffer<int32_t> place_slots_;
  Buffer<T> place_keys_, spare_key_;
  KeyedScore<T> keyed_;
  BoundTrees<T> trees_;
  const T* h_[max_rows];
  const T* c_[max_rows];
  Window<T> window_[max_rows];
  int64_t steps_done_[max_rows], count_[max_rows], cuts_[max_rows], best_size_[max_rows];
};

template <class T>
void forward(const ForwardArgs<T>& args, int64_t begin, int64_t end) {
  Forward<T>(args, begin, end).run();
}

}  // namespace SAB_ISA
}  // namespace reminding
