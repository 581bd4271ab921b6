// Checks every number that a call uses as an index, before the loops run: counters, slots, pairs, and the indices of
// past calls.
//
// Shapes: see problem.h.
#pragma once

#include "arguments.h"
#include "problem.h"

namespace reminding {

constexpr int64_t most_steps = int64_t(1) << 62;  // of a stream: adding the steps of a call does not overflow

inline void expect_element(const char* name, int64_t at, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    refuse(name, " must be between ", least, " and ", most, ", got ", value, " in element ", at);
}

// step0 (B,)
inline void expect_steps(const Problem& p, const int64_t* step0) {
  for (int64_t b = 0; b < p.B; ++b) expect_element("step0", b, step0[b], 0, most_steps);
}

// count0 (B,): filled slots among the memories given, which have all of M but the room for those that the call
// stores. Steps of past calls say which slots they store in, so all of M may be filled.
inline void expect_counts(const Problem& p, const int64_t* count0, bool past) {
  const int64_t given = past ? p.M : p.M - p.room();
  if (given < 0) refuse("memory must have at least ", p.room(), " slots for what the call stores, got ", p.M);
  for (int64_t b = 0; b < p.B; ++b)
    expect_element("count0", b, count0[b], 0, p.bounded() ? std::min(given, p.capacity) : given);
}

// Of memories that are kept from call to call: where they lie, and that there is room for what the call stores.
template <class T>
void expect_windows(const Problem& p, const Kept<T>& kept, const int64_t* step0) {
  if (p.k_top == 0) return;
  if (p.bounded() && p.M <= p.capacity) refuse("slots must be more than the capacity ", p.capacity, ", got ", p.M);
  for (int64_t b = 0; b < p.B; ++b) {
    const int64_t first = kept.window[2 * b], end = kept.window[2 * b + 1];
    expect_element("held: window", 2 * b, first, 0, p.M);
    expect_element("held: window", 2 * b + 1, end, first, p.bounded() ? std::min(p.M, first + p.capacity) : p.M);
    const int64_t stored = (step0[b] + p.T) / p.k_att - step0[b] / p.k_att;
    if (!p.bounded() && stored > p.M - end)
      refuse("slots must have room for what the call stores, ", stored, ", got ", p.M - end, " in row ", b);
  }
}

// lengths (B,) or null: how many of the T steps each row has, the longest first.
inline void expect_lengths(const Problem& p, const int64_t* lengths) {
  for (int64_t b = 0; lengths != nullptr && b < p.B; ++b)
    expect_element("lengths", b, lengths[b], 1, b > 0 ? lengths[b - 1] : p.T);
}

// notes (B, 4): of kept trees, see `KeptTrees`.
inline void expect_notes(const Problem& p, const int64_t* notes) {
  constexpr int64_t longest = 255;  // steps without a search, and with it the next pause
  for (int64_t i = 0; i < p.B * 4; i += 4) {
    expect_element("held: notes", i, notes[i], -1, p.M);
    expect_element("held: notes", i + 1, notes[i + 1], 0, 1);
    for (int64_t j = i + 2; j < i + 4; ++j) expect_element("held: notes", j, notes[j], 0, longest);
  }
}

template <class T>
void expect_past(const Problem& p, const Past<T>& past, int64_t first_row, int64_t rows) {
  if (past.cut == nullptr) return;
  for (int64_t t = 0; t < p.T; ++t) {
    for (int64_t b = first_row; b < first_row + rows; ++b) {
      const int64_t at = t * p.B + b;
      expect_element("past: entry", at, past.entry[at], -1, past.entering - 1);
      for (int64_t i = at * past.slots_per_step; i < (at + 1) * past.slots_per_step; ++i)
        expect_element("past: stored", i, past.stored[i], -1, p.M - 1);
    }
  }
}

// index (n,): each element is -1 or the next of the numbers 0, 1, ... size - 1.
inline void expect_numbering(const char* name, const int32_t* index, int64_t n, int64_t size) {
  int64_t next = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (index[i] == -1) continue;
    if (index[i] != next) refuse(name, " must be -1 or the next number, ", next, ", got ", index[i], " in element ", i);
    ++next;
  }
  if (next != size) refuse(name, " must number ", size, " elements, got ", next);
}

// pair (T, rows): a live step passes its gradient to the step before, which must then be live too, unless a cut or a
// new segment lies between them.
template <class T>
void expect_whole_segments(const Problem& p, const Past<T>& past, const int64_t* step0, const int32_t* pair,
                           int64_t first_row, int64_t rows) {
  for (int64_t t = 1; t < p.T; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      if (pair[t * rows + r] < 0 || pair[(t - 1) * rows + r] >= 0) continue;
      const int64_t b = first_row + r, at = t * p.B + b;
      if (!past.enters(at) && !past.cuts(p, at, step0[b] + t))
        refuse("pair must hold the step before step ", t, " of row ", r, " too: no cut lies between them");
    }
  }
}

// The slots that live steps recalled: they must exist, and have room for their gradient.
template <class T>
void expect_recalls(const BackwardArgs<T>& a) {
  const Problem& p = a.problem;
  if (p.k_top == 0) return;
  for (int64_t t = 0; t < p.T; ++t) {
    for (int64_t r = 0; r < a.rows; ++r) {
      const int64_t at = t * p.B + a.first_row + r;
      if (a.pair[t * a.rows + r] < 0 || a.inverse[at] == T(no_recall)) continue;
      const int32_t *touched = a.touched + r * p.M, *slots = a.slots + at * p.k_top;
      for (int64_t i = 0; i < p.k_top && slots[i] >= 0; ++i)
        if (slots[i] >= p.M || touched[slots[i]] < 0)
          refuse("slots must name touched memories, got ", slots[i], " in step ", t, " of row ", r);
      if (a.edge[at] >= 0 && (a.edge[at] >= p.M || touched[a.edge[at]] < 0))
        refuse("edge must name a touched memory, got ", a.edge[at], " in step ", t, " of row ", r);
    }
  }
}

// Segments laid out: their steps lie in (T, B), the first has an entering state, and what was read has a slot.
template <class T>
void expect_entries(const PastForwardArgs<T>& a) {
  const Problem& p = a.problem;
  for (int64_t i = 0; i < a.entries; ++i) {
    expect_element("entries: column", i, a.column[i], 0, p.B - 1);
    expect_element("entries: start", i, a.start[i], 0, p.T - 1);
    expect_element("entries: count", i, a.count[i], 1, p.T - a.start[i]);
    if (!a.past.enters(a.start[i] * p.B + a.column[i])) refuse("past: entry must enter each segment's first step");
    for (int64_t s = 0; s < a.count[i]; ++s) {
      const int64_t first = ((a.start[i] + s) * p.B + a.column[i]) * a.ranks;
      for (int64_t k = first; k < first + a.ranks; ++k) expect_element("read", k, a.read[k], -1, p.M - 1);
    }
  }
}

// Segments of past calls: their rows must be in the batch, and their steps among the `reads` recorded ones.
template <class Args>
void expect_segments(const Args& a, int64_t rows, int64_t reads) {
  for (int64_t i = 0; i < a.segments; ++i) {
    expect_element("segments: row", i, a.row[i], 0, rows - 1);
    expect_element("segments: steps_done", i, a.steps_done[i], 0, most_steps);
    expect_element("segments: steps", i, a.steps[i], 0, std::min(reads, largest_size));
    if (a.steps[i] == 0) continue;
    expect_element("segments: base", i, a.base[i], 0, reads - 1);
    const int64_t furthest = a.steps[i] > 1 ? (reads - 1 - a.base[i]) / (a.steps[i] - 1) : most_steps;
    expect_element("segments: stride", i, a.stride[i], 0, furthest);
  }
}

// step (rows, M): must ascend in each row, for the binary search.
inline void expect_ascending(const int64_t* step, int64_t rows, int64_t M) {
  for (int64_t i = 0; i < rows * M; ++i)
    if (i % M != 0 && step[i] < step[i - 1]) refuse("memory: step must ascend, got ", step[i], " after ", step[i - 1]);
}

}  // namespace reminding
