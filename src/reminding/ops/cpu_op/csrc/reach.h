// Finds the (step, row) pairs and the memories that receive any gradient: from the last step to the first, with
// integers only.
//
// A step is live if the loss reaches it directly, or through the next step of its segment, or through the memory that
// it stored and a later live step recalled. If only the last step has a loss, few steps are live.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arguments.h"
#include "problem.h"

namespace reminding {

template <class T>
struct ReachArgs {
  Problem problem;
  Past<T> past;
  const int64_t *step0, *count0;                             // (B,)
  const int64_t* lengths;                                    // as of the forward pass
  const T *d_output, *d_summary, *d_c_T, *d_c, *d_memory;    // each may be null
  const int32_t *slots, *edge;                               // (T, B, K), (T, B)
  const T* inverse;                                          // (T, B)
  Flag* live;                                                // (T, B)
  Flag* touched;                                             // (B, M): a live step recalled it, or d_memory is not 0
};

template <class T>
bool any_nonzero(const T* x, int64_t size) {
  for (int64_t i = 0; i < size; i += 16) {
    bool any = false;
    const int64_t end = i + 16 < size ? i + 16 : size;
    for (int64_t j = i; j < end; ++j) any |= x[j] != 0;
    if (any) return true;
  }
  return false;
}

template <class T>
class Reach {
 public:
  explicit Reach(const ReachArgs<T>& args)
      : a(args), p(args.problem), carried_(static_cast<size_t>(p.B)), credited_(static_cast<size_t>(p.B * p.M)) {}

  void run() {
    if (p.B == 0) return;
    for (int64_t i = 0; i < p.B * p.M; ++i)
      credited_[i] = a.touched[i] = a.d_memory != nullptr && any_nonzero(a.d_memory + i * p.H, p.H);
    for (int64_t b = 0; b < p.B; ++b)
      carried_[b] = p.has_c() && a.d_c_T != nullptr && any_nonzero(a.d_c_T + b * p.H, p.H);
    for (int64_t t = p.T - 1; t >= 0; --t)
      for (int64_t b = 0; b < p.B; ++b) visit(t, b);
  }

 private:
  void visit(int64_t t, int64_t b) {
    const int64_t at = t * p.B + b, steps_done = a.step0[b] + t;
    if (a.lengths != nullptr && t >= a.lengths[b]) {  // what arrives at c waits for the row's last step
      a.live[at] = 0;
      return;
    }
    bool live = carried_[b];
    if (!live && a.d_output != nullptr) live = any_nonzero(a.d_output + at * p.H, p.H);
    if (!live && a.d_summary != nullptr) live = any_nonzero(a.d_summary + at * p.H, p.H);
    if (!live && a.d_c != nullptr) live = any_nonzero(a.d_c + at * p.H, p.H);
    for (int64_t copy = 0; !live && copy < Past<T>::slots_per_step; ++copy) {
      const int64_t slot = a.past.slot(p, at, copy, steps_done, a.step0[b], a.count0[b]);
      live = slot >= 0 && credited_[b * p.M + slot];
    }
    a.live[at] = live ? 1 : 0;
    carried_[b] = live && !a.past.cuts(p, at, steps_done);
    if (!live || p.k_top == 0 || a.inverse[at] == T(no_recall)) return;
    for (int64_t i = 0; i < p.k_top && a.slots[at * p.k_top + i] >= 0; ++i) mark(b, a.slots[at * p.k_top + i]);
    if (a.edge[at] >= 0) mark(b, a.edge[at]);
  }

  void mark(int64_t b, int64_t slot) {
    if (slot >= p.M) refuse("slots and edge must be below ", p.M, ", the width of memory, got ", slot, " in row ", b);
    a.touched[b * p.M + slot] = true;
    if (p.backtrack) credited_[b * p.M + slot] = true;
  }

  const ReachArgs<T>& a;
  const Problem& p;
  std::vector<char> carried_, credited_;
};

// Segments of past calls, each of a single row of the batch, by row, each row's oldest first.
struct PastSegments {
  Problem problem;
  int64_t segments, ranks, rows;            // rows: B
  const int64_t *row, *steps_done, *steps;  // (segments,)
  const int64_t *base, *stride;             // (segments,): a segment's first read, and the distance between its reads
  const int64_t* read;         // (., ranks): stream steps of the memories that a step read, -1 where none
  const int64_t* memory_step;  // (B, M), ascending
  const Flag* passes;          // (B, M): whether the memory passes credit on

  // The slot of the memory that a row stored at a stream step, -1 where there is none.
  int64_t find(int64_t b, int64_t step) const {
    const int64_t *begin = memory_step + b * problem.M, *end = begin + problem.M;
    if (begin == end) return -1;
    // Where it is if no memory is missing.
    const uint64_t regular = static_cast<uint64_t>(step / problem.k_att) - static_cast<uint64_t>(*begin / problem.k_att);
    if (regular < static_cast<uint64_t>(problem.M) && begin[regular] == step) return static_cast<int64_t>(regular);
    const int64_t* at = std::lower_bound(begin, end, step);
    return at != end && *at == step ? at - begin : -1;
  }
  // The slot of the memory that step s of segment i stored and that passes credit on, -1 where there is none.
  int64_t stored(int64_t i, int64_t s) const {
    if (!problem.backtrack || !problem.stores(steps_done[i] + s)) return -1;
    const int64_t slot = find(row[i], steps_done[i] + s + 1);
    return slot >= 0 && passes[row[i] * problem.M + slot] ? slot : -1;
  }
  const int64_t* reads(int64_t i, int64_t s) const { return read + (base[i] + s * stride[i]) * ranks; }
};

// Finds the segments of past calls that credit can reach, and how many steps of each, before any step is replayed.
// Rows are visited one after the other, the segments of each from newest to oldest. All steps of a segment up to the
// last one that credit reaches count as reached, even if a cut lies between them.
struct PastReachArgs : PastSegments {
  Flag* credited;  // (B, M): whether the memory has received credit; in and out
  // (segments,): how many steps credit can reach, counted from the first; in: from outside, out: in all.
  int32_t* until;
};

class PastReach {
 public:
  explicit PastReach(const PastReachArgs& args) : a(args), p(args.problem) {}

  void run() {
    int64_t row = -1, position = 0;
    bool carried = false;
    for (int64_t i = a.segments - 1; i >= 0; --i) {
      if (a.row[i] != row) {
        row = a.row[i];
        carried = false;
      }
      const bool whole = carried && a.steps_done[i] + a.steps[i] == position;
      const int64_t until = whole ? a.steps[i] : std::max<int64_t>(a.until[i], last_credited(i, a.until[i]));
      a.until[i] = static_cast<int32_t>(until);
      for (int64_t s = 0; p.backtrack && s < until; ++s) mark_read(i, s);
      carried = until > 0 && !p.cuts(a.steps_done[i]);
      position = a.steps_done[i];
    }
  }

 private:
  // The last step beyond the first `known` whose memory is credited.
  int64_t last_credited(int64_t i, int64_t known) const {
    for (int64_t s = a.steps[i]; s > known; --s) {
      const int64_t slot = a.stored(i, s - 1);
      if (slot >= 0 && a.credited[a.row[i] * p.M + slot]) return s;
    }
    return 0;
  }

  void mark_read(int64_t i, int64_t s) const {
    const int64_t* read = a.reads(i, s);
    for (int64_t k = 0; k < a.ranks && read[k] >= 0; ++k) {
      const int64_t slot = a.find(a.row[i], read[k]);
      if (slot >= 0) a.credited[a.row[i] * p.M + slot] = true;
    }
  }

  const PastReachArgs& a;
  const Problem& p;
};

}  // namespace reminding
