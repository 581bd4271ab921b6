// Segments of past calls run forward again in one call.
//
// Shapes: see problem.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "loops.h"
#include "weights.h"

namespace reminding {

// The arguments of `replay_past`, but for what is made of them.
template <class T>
void read_replayed(PastForwardArgs<T>& a, const Tensor& x, const Tensor& memory, const Tensor& read, const Tensor& entries,
                   const Tensors& weights, const Tensor& bias, const Optional& score, const Tensors& past, int64_t own,
                   const Optional& factor, const std::vector<int64_t>& rule) {
  Problem& p = a.problem;
  p = read_rule(rule);
  p.T = measured("read", read, 3).size(0);
  p.B = read.size(1);
  a.ranks = read.size(2);
  p.M = measured("memory", memory, 3).size(1);
  p.H = memory.size(2);
  if (p.H < 1) refuse("memory must have a hidden size of at least 1, got ", description(memory));
  a.inputs = measured("x", x, 3).size(2);
  expect_weights<T>(weights, p, a.inputs);
  a.x = data<T>("x", x, {p.T, p.B, a.inputs});
  a.memory = data<T>("memory", memory, {p.B, p.M, p.H});
  a.read = data<int32_t>("read", read, {p.T, p.B, a.ranks});
  a.bias = data<T>("bias", bias, {p.gates()});
  a.factor = data_if_given<T>("factor", factor, {p.T, p.B, p.H});
  if (p.score_width() > 0) a.score = data<T>("score", score, {p.score_width()});
  else expect_none("score", score);
  if (past.empty()) refuse("past must say how the steps are laid out");
  a.past = read_past<T>(past, p);
  expect_past(p, a.past, 0, p.B);
  a.entries = measured("entries", entries, 2).size(1);
  a.start = data<int64_t>("entries", entries, {3, a.entries});
  a.column = a.start + a.entries;
  a.count = a.column + a.entries;
  a.own = between("own", own, -1, std::max<int64_t>(-1, p.M - p.T));
  expect_entries(a);
}

// Which places are steps of the entries, (T, B), and which memories these read, or have credit, (B, M).
// credited: (B, known), of the first slots of each row.
template <class T>
void visit(const PastForwardArgs<T>& a, const Flag* credited, int64_t known, Flag* live, Flag* touched) {
  const Problem& p = a.problem;
  std::fill_n(live, p.T * p.B, Flag(0));
  for (int64_t b = 0; b < p.B; ++b) {
    std::copy_n(credited + b * known, known, touched + b * p.M);
    std::fill_n(touched + b * p.M + known, p.M - known, Flag(0));
  }
  for (int64_t i = 0; i < a.entries; ++i) {
    for (int64_t t = a.start[i]; t < a.start[i] + a.count[i]; ++t) {
      const int64_t at = t * p.B + a.column[i];
      live[at] = 1;
      for (int64_t k = at * a.ranks; k < (at + 1) * a.ranks && a.read[k] >= 0; ++k)
        touched[a.column[i] * p.M + a.read[k]] = 1;
    }
  }
}

// The keys of touched memories as the loops compare them, (S, D), but for those of the steps' own states, which are made
// later. held: their places in (B, M). Returns the largest |W1 m|, if the score's exactness depends on it.
template <class T>
T make_keys(const PastForwardArgs<T>& a, const int64_t* held, int64_t size) {
  const Problem& p = a.problem;
  if (!p.keyed()) return 0;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (int64_t s = 0; s < size; ++s) {
    if (a.own >= 0 && held[s] % p.M >= a.own) continue;
    from.push_back(a.memory + held[s] * p.H);
    to.push_back(a.keys + s * p.D);
  }
  multiply_rows<T>(from, a.packed.memory, to, p.H, p.D, false);
  T peak = 0;
  for (T* key : to) {
    if (p.score != Score::additive) break;
    for (int64_t d = 0; d < p.D; ++d) peak = std::max(peak, std::abs(key[d]));
    kernels<T>().exponentiate(key, p.D);
  }
  return peak;
}

// The first N rows of a tensor (., width) that has as many.
template <class T>
Tensor first_steps(const char* name, Tensor x, int64_t N, int64_t width) {
  const int64_t rows = measured(name, x, 2).size(0);
  data<T>(name, x, {rows, width});
  if (rows < N) refuse(name, " must have at least ", N, " rows, got ", rows);
  return torch::stable::narrow(x, 0, 0, N);
}

// What is not a step of the entries has read nothing.
template <class T>
void clear_recalls(const PastForwardArgs<T>& a) {
  const Problem& p = a.problem;
  std::fill_n(a.edge, p.T * p.B, -1);
  std::fill_n(a.inverse, p.T * p.B, T(no_recall));
  std::fill_n(a.slots, p.T * p.B * p.k_top, -1);
  std::fill_n(a.weights, p.T * p.B * p.k_top, T(0));
}

// Segments of past calls run forward again. memory (B, M, H): the slots behind `own` are filled. credited (B, <= M).
// entries: start, column and count, (3, L). weights: see `expect_weights`. room: where gates, cells and queries go, for at
// least as many steps as there are, and output and summary. Other arguments: see `PastForwardArgs`.
// Returns output, summary, slots, edge, weights, inverse; gates, cells, queries, keys; the numbers of the steps (T, B) and of
// the slots that they read (B, M); and the largest |W1 m| and |W2 h_hat|, where the score is additive.
inline std::vector<Tensor> replay_past(Tensor x, Tensor memory, Tensor credited, Tensor read, Tensor entries,
                                       Tensors weights, Tensor bias, Optional score, Tensors past, int64_t own,
                                       std::vector<Tensor> room, Optional factor, std::vector<int64_t> rule) {
  expect_length("room", room, 5);
  return by_type("memory", memory, [&](auto zero) -> std::vector<Tensor> {
    using T = decltype(zero);
    PastForwardArgs<T> a = {};
    read_replayed<T>(a, x, memory, read, entries, weights, bias, score, past, own, factor, rule);
    const Problem& p = a.problem;
    const int64_t known = between("credited: width", measured("credited", credited, 2).size(1), 0, p.M);
    const Flag* with_credit = data<Flag>("credited", credited, {p.B, known});
    const Tensor live = make(credited, {p.T, p.B}), touched = make(credited, {p.B, p.M});
    visit(a, with_credit, known, elements<Flag>(live), elements<Flag>(touched));
    const auto [pair, place] = number(live);
    const auto [slot, held] = number(touched);
    const int64_t N = place.size(0), S = held.size(0);
    const Tensor gates = first_steps<T>("room: gates", room[0], N, p.gates()),
                 cells = first_steps<T>("room: cells", room[1], N, p.c_width()),
                 queries = first_steps<T>("room: queries", room[2], N, p.D), output = room[3], summary = room[4],
                 keys = make(memory, {S, p.D}), slots = make(memory, {p.T, p.B, p.k_top}, ScalarType::Int),
                 recalled = make(memory, {p.T, p.B, p.k_top}), edge = make(memory, {p.T, p.B}, ScalarType::Int),
                 inverse = make(memory, {p.T, p.B}), peaks = make(memory, {a.entries, 2}), peak = zeros(memory, {2});
    const Tensors packed = pack_weights<T>(weights, p, true, true);
    a.packed = read_packed<T>(packed, p, a.inputs, true, true);
    a.pair = elements<int32_t>(pair);
    a.touched = elements<int32_t>(slot);
    a.gates = elements<T>(gates);
    a.cells = elements<T>(cells);
    a.queries = elements<T>(queries);
    a.keys = elements<T>(keys);
    a.output = data<T>("room: output", output, {p.T, p.B, p.H});
    a.summary = data<T>("room: summary", summary, {p.T, p.B, p.H});
    a.slots = elements<int32_t>(slots);
    a.edge = elements<int32_t>(edge);
    a.weights = elements<T>(recalled);
    a.inverse = elements<T>(inverse);
    a.peak = elements<T>(peaks);
    clear_recalls(a);
    T* largest = elements<T>(peak);
    largest[0] = make_keys(a, elements<int64_t>(held), S);
    const int64_t row_bytes = (p.gates() + 3 * p.H + p.D) * static_cast<int64_t>(sizeof(T));
    for_rows(0, a.entries, row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().past_forward(a, begin, end); });
    for (int64_t i = 0; i < 2 * a.entries; ++i) largest[i % 2] = std::max(largest[i % 2], a.peak[i]);
    return {output, summary, slots, edge, recalled, inverse, gates, cells, queries, keys, pair, slot, peak};
  });
}

}  // namespace reminding
