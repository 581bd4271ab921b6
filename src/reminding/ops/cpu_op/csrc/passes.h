// Reads the arguments that several operators share, and checks the type and shape of each tensor.
//
// Shapes: see problem.h.
#pragma once

#include <vector>

#include "arguments.h"
#include "indices.h"
#include "isa.h"
#include "problem.h"

namespace reminding {

// The packed weight of a product of rows (., k) with a matrix (k, n).
template <class T>
const T* read_packed(const char* name, const Optional& packed, int64_t k, int64_t n) {
  return data<T>(name, packed, {kernels<T>().packed_size(k, n)});
}

// packed: the results of `pack` for the input, hidden, memory and query weights. `transposed`: in the form that the
// forward pass reads, else in that of the backward pass. `with_input`: false if d_x is not wanted, since the backward
// pass then does not read the input weight.
template <class T>
Packed<T> read_packed(const Tensors& packed, const Problem& p, int64_t inputs, bool transposed, bool with_input) {
  expect_length("packed", packed, 4);
  const auto one = [&](const char* name, const Optional& weight, int64_t k, int64_t n) {
    return transposed ? read_packed<T>(name, weight, k, n) : read_packed<T>(name, weight, n, k);
  };
  Packed<T> all;
  if (with_input) all.input = one("packed: input", packed[0], inputs, p.recurrent());
  else expect_none("packed: input", packed[0]);
  if (p.cell == Cell::gru) {  // two packed matrices in one tensor: r and z, then n
    const Kernels<T>& kernel = kernels<T>();
    const int64_t both = transposed ? kernel.packed_size(p.H, 2 * p.H) : kernel.packed_size(2 * p.H, p.H);
    all.hidden = data<T>("packed: hidden", packed[1], {both + kernel.packed_size(p.H, p.H)});
  } else {
    all.hidden = one("packed: hidden", packed[1], p.H, p.gates());
  }
  if (!p.keyed()) {
    expect_none("packed: memory", packed[2]);
    expect_none("packed: query", packed[3]);
    return all;
  }
  all.memory = one("packed: memory", packed[2], p.H, p.D);
  all.query = one("packed: query", packed[3], p.H, p.D);
  return all;
}

// c at the cuts, where replay starts.
template <class T>
T* read_cuts(const Problem& p, const Optional& entering_c) {
  return data<T>("entering_c", entering_c, {p.B, p.has_c() ? p.most_cuts() : 0, p.H});
}

// given: x, h0, c0, step0, count0, score or None; its lengths and factor are read by each pass itself.
// record: output, summary, memory, slots, edge, weights, inverse, and c at the cuts or None.
template <class T, class Args>
void read_shared(Args& a, const Tensors& given, const Tensors& record) {
  const Problem& p = a.problem;
  const Shape state = {p.B, p.H}, steps = {p.T, p.B, p.H};
  a.inputs = measured("x", present("x", given[0]), 3).size(2);
  a.x = data<T>("x", given[0], {p.T, p.B, a.inputs});
  a.h0 = data<T>("h0", given[1], state);
  a.c0 = data<T>("c0", given[2], {p.B, p.c_width()});
  a.step0 = data<int64_t>("step0", given[3], {p.B});
  a.count0 = data<int64_t>("count0", given[4], {p.B});
  if (p.score_width() > 0) a.score = data<T>("score", given[5], {p.score_width()});
  else expect_none("score", given[5]);
  a.output = data<T>("output", record[0], steps);
  a.summary = data<T>("summary", record[1], steps);
  a.memory = data<T>("memory", record[2], {p.B, p.M, p.H});
  a.slots = data<int32_t>("slots", record[3], {p.T, p.B, p.k_top});
  a.edge = data<int32_t>("edge", record[4], {p.T, p.B});
  a.weights = data<T>("weights", record[5], {p.T, p.B, p.k_top});
  a.inverse = data<T>("inverse", record[6], {p.T, p.B});
  expect_steps(p, a.step0);
}

inline Problem read_pass(const Tensors& given, const Tensors& kept, const Tensors& record,
                         const std::vector<int64_t>& rule, int64_t key_dimensions) {
  expect_length("given", given, 8);
  expect_length("kept", kept, 4);
  expect_length("record", record, 8);
  Problem p = read_problem(present("output", record[0]), present("memory", record[2]), rule);
  p.D = measured("keys", present("keys", kept[3]), key_dimensions).size(key_dimensions - 1);
  if (p.keyed() ? p.D < 1 : p.D != 0)
    refuse("keys must have ", p.keyed() ? "a width of at least 1" : "no width without projections", ", got ", p.D);
  return p;
}

// The problem of a call that serves streams, from what it is to fill, and the slots of their memories.
inline Problem read_served(const Tensors& out, const Tensors& slots, const std::vector<int64_t>& rule) {
  expect_length("out", out, 5);
  Problem p = read_problem(present("out: output", out[0]), present("slots: memory", slots[0]), rule);
  p.D = p.keyed() ? measured("slots: keys", present("slots: keys", slots[3]), 3).size(2) : 0;
  if (p.keyed() && p.D < 1) refuse("slots: keys must have a width of at least 1, got ", p.D);
  return p;
}

// The trees over kept memories, or none where their tensors have no elements. Where places move, a tree would be built
// anew at every eviction.
template <class T>
void read_trees(KeptTrees<T>& trees, const Problem& p, const Tensors& held) {
  const bool any = measured("held: points", present("held: points", held[2]), 3).size(1) > 0;
  const TreeRoom room(any ? p.M : 0);
  const int64_t width = room.any() ? ((p.score == Score::dot ? 2 : 1) + 1) * p.D : 0;
  T* points = data<T>("held: points", held[2], {p.B, room.nodes, width});
  trees.links = data<int32_t>("held: links", held[3], {p.B, room.links});
  trees.notes = data<int64_t>("held: notes", held[4], {p.B, 4});
  expect_notes(p, trees.notes);
  if (!any) return;
  if (!p.keyed()) refuse("held: points must have no elements for a score without keys");
  if (p.bounded() && p.evict != Evict::fifo) refuse("held: points must have no elements where any memory may go");
  trees.points = points;
}

// The arguments of `serve`, but for the weights; ops.cpp describes the lists.
template <class T>
void read_served(ForwardArgs<T>& a, Kept<T>& kept, const Tensor& x, const Tensors& state, const Tensors& slots,
                 const Tensors& held, const Tensors& out) {
  const Problem& p = a.problem;
  expect_length("state", state, 3);
  expect_length("held", held, 5);
  a.inputs = measured("x", x, 3).size(2);
  a.x = data<T>("x", x, {p.T, p.B, a.inputs});
  a.h0 = data<T>("state: h", state[0], {p.B, p.H});
  a.c0 = data<T>("state: c", state[1], {p.B, p.c_width()});
  a.step0 = data<int64_t>("state: step", state[2], {p.B});
  a.memory = data<T>("slots: memory", slots[0], {p.B, p.M, p.H});
  kept.steps = data<int64_t>("slots: step", slots[1], {p.B, p.M});
  a.received = data<T>("slots: received", slots[2], {p.B, p.bounded() ? p.M : 0});
  a.keys = data<T>("slots: keys", slots[3], {p.B, p.M, p.k_top > 0 ? p.key_width() : 0});
  kept.window = data<int64_t>("held: window", held[0], {p.B, 2});
  kept.tops = data<T>("held: tops", held[1], {p.B, p.D + 1});
  read_trees(kept.trees, p, held);
  a.output = data<T>("out: output", out[0], {p.T, p.B, p.H});
  a.summary = data_if_given<T>("out: summary", out[1], {p.T, p.B, p.H});
  a.c_T = data<T>("out: c_T", out[2], {p.B, p.c_width()});
  a.weights = data_if_given<T>("out: weights", out[3], {p.T, p.B, p.k_top});
  kept.recalled = data_if_given<int64_t>("out: steps", out[4], {p.T, p.B, p.k_top});
  a.count0 = a.step0;  // the windows say how many there are
  a.stride = 1;
  a.kept = &kept;
  expect_steps(p, a.step0);
  expect_windows(p, kept, a.step0);
}

// past: cut, stored, entry, h, c; or an empty list.
template <class T>
Past<T> read_past(const Tensors& past, const Problem& p) {
  Past<T> steps;
  if (past.empty()) return steps;
  expect_length("past", past, 5);
  steps.entering = measured("past: h", present("past: h", past[3]), 2).size(0);
  steps.cut = data<Flag>("past: cut", past[0], {p.T, p.B});
  steps.stored = data<int32_t>("past: stored", past[1], {p.T, p.B, Past<T>::slots_per_step});
  steps.entry = data<int32_t>("past: entry", past[2], {p.T, p.B});
  steps.h = data<T>("past: h", past[3], {steps.entering, p.H});
  steps.c = data<T>("past: c", past[4], {steps.entering, p.c_width()});
  return steps;
}

// kept: gates, cells, queries and keys, of all steps as the forward pass saved them. If `compact`, they were
// recomputed: gates, cells and queries of the live pairs only, and keys of the touched slots only.
template <class T>
void read_kept(BackwardArgs<T>& a, const Tensors& kept, const Optional& entering_c, bool past) {
  const Problem& p = a.problem;
  if (!a.compact) {
    a.gates = data<T>("gates", kept[0], {a.rows, p.T, p.gates()});
    a.cells = data<T>("cells", kept[1], {a.rows, p.T, p.c_width()});
    a.queries = data<T>("queries", kept[2], {a.rows, p.T, p.D});
    a.keys = data<T>("keys", kept[3], {a.rows, p.M, p.D});
    for (int64_t i = 0; i < p.T * a.rows; ++i) expect_element("pair", i, a.pair[i], -1, 0);
    return;
  }
  const int64_t pairs = measured("gates", present("gates", kept[0]), 2).size(0);
  a.gates = data<T>("gates", kept[0], {pairs, p.gates()});
  a.cells = data<T>("cells", kept[1], {pairs, p.c_width()});
  a.queries = data<T>("queries", kept[2], {pairs, p.D});
  a.keys = data<T>("keys", kept[3], {a.slots_touched, p.D});
  a.entering_c = past ? nullptr : read_cuts<T>(p, entering_c);
  a.max_cuts = p.most_cuts();
  expect_numbering("pair", a.pair, p.T * a.rows, pairs);
}

// arriving: the gradients of output, summary and c_T, and, of a past, of c after each step; each a tensor or None.
// credit: d_recalled, d_keys.
// leaving: d_x or None, d_h0, d_c0, d_bias, d_score.
template <class T>
void read_gradients(BackwardArgs<T>& a, const Tensors& arriving, const Tensors& credit, const Tensors& leaving,
                    bool past) {
  const Problem& p = a.problem;
  expect_length("arriving", arriving, 4);
  expect_length("leaving", leaving, 5);
  a.d_output = data_if_given<T>("d_output", arriving[0], {p.T, p.B, p.H});
  a.d_summary = data_if_given<T>("d_summary", arriving[1], {p.T, p.B, p.H});
  a.d_c_T = data_if_given<T>("d_c_T", arriving[2], {p.B, p.c_width()});
  if (past && p.has_c()) a.d_c = data_if_given<T>("d_c", arriving[3], {p.T, p.B, p.H});
  else expect_none("d_c", arriving[3]);
  a.d_recalled = data<T>("credit: d_recalled", credit[0], {a.slots_touched, p.H});
  a.d_keys = data<T>("credit: d_keys", credit[1], {a.slots_touched, p.key_width()});
  a.d_x = data_if_given<T>("d_x", leaving[0], {p.T, p.B, a.inputs});
  a.d_h0 = data<T>("d_h0", leaving[1], {p.B, p.H});
  a.d_c0 = data<T>("d_c0", leaving[2], {p.B, p.c_width()});
  a.d_bias = data<T>("d_bias", leaving[3], {p.B, p.gates()});
  a.d_score = data<T>("d_score", leaving[4], {p.B, p.score_width()});
}

}  // namespace reminding
