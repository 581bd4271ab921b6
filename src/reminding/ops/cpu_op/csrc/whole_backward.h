// A whole backward pass in one call, over steps that were kept or run again.
//
// Shapes: see problem.h.
#pragma once

#include <algorithm>
#include <tuple>
#include <vector>

#include "loops.h"
#include "weights.h"

namespace reminding {

// (B, W) -> (W,)
template <class T>
Tensor sum_of_rows(const Tensor& rows) {
  const int64_t B = rows.size(0), W = rows.size(1);
  Tensor sum = zeros(rows, {W});
  T* to = elements<T>(sum);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t i = 0; i < W; ++i) to[i] += elements<T>(rows)[b * W + i];
  return sum;
}

// Which steps credit reaches and which memories they score, numbered: (T, B), where a step's own number is 0, and (B, M).
template <class T>
std::vector<Tensor> visited_steps(const Tensors& given, const Tensors& record, const Tensors& arriving, const Problem& p,
                                  const std::vector<int64_t>& rule) {
  const Tensor& output = *record[0];
  const Tensor live = make(output, {p.T, p.B}, ScalarType::Bool), touched = make(output, {p.B, p.M}, ScalarType::Bool);
  reach(live, touched, output, *record[2], *given[3], *given[4], given[6], *record[3], *record[4], *record[6], arriving[0],
        arriving[1], arriving[2], arriving[3], arriving[4], {}, rule);
  const Tensor pair = make(output, {p.T, p.B}, ScalarType::Int);
  for (int64_t i = 0; i < p.T * p.B; ++i) elements<int32_t>(pair)[i] = elements<Flag>(live)[i] != 0 ? 0 : -1;
  return {pair, std::get<0>(number(touched))};
}

// Where the gradients of the memories touched are added up, (S, H), begun with those that arrive, (B, M, H) or None.
template <class T>
Tensor begun_credit(const Optional& d_memory, const Tensor& touched, const Tensor& like, const Problem& p) {
  const int32_t* index = data<int32_t>("touched", touched, {p.B, p.M});
  const int64_t S = std::count_if(index, index + p.B * p.M, [](int32_t number) { return number >= 0; });
  expect_numbering("touched", index, p.B * p.M, S);
  const T* from = data_if_given<T>("d_memory", d_memory, {p.B, p.M, p.H});
  if (from == nullptr) return zeros(like, {S, p.H});
  Tensor credit = make(like, {S, p.H});
  for (int64_t i = 0; i < p.B * p.M; ++i)
    if (index[i] >= 0) std::copy_n(from + i * p.H, p.H, elements<T>(credit) + index[i] * p.H);
  return credit;
}

// Credit of the memories given with a call, and of their keys, goes back to them: (B, M0, H).
template <class T>
Tensor given_back(const Tensor& d_recalled, const Tensor& d_keys, const Tensor& touched, const Tensor& count0,
                  const Tensors& packed, const Problem& p, int64_t M0) {
  Tensor d_memory0 = zeros(d_recalled, {p.B, M0, p.H});
  if (M0 == 0) return d_memory0;
  const int64_t* count = elements<int64_t>(count0);
  std::vector<const T*> from;
  std::vector<T*> to;
  for (int64_t b = 0; p.keyed() && p.backtrack && b < p.B; ++b) {
    for (int64_t m = 0; m < std::min(count[b], M0); ++m) {
      const int64_t s = elements<int32_t>(touched)[b * p.M + m];
      if (s < 0) continue;
      from.push_back(elements<T>(d_keys) + s * p.D);
      to.push_back(elements<T>(d_recalled) + s * p.H);
    }
  }
  if (!from.empty()) multiply_rows<T>(from, elements<T>(*packed[2]), to, p.D, p.H, true);
  give_back(d_memory0, d_recalled, touched, count0, 0);
  return d_memory0;
}

// The gradients of a pass of which all steps were kept, or of steps of past calls that were run again.
// given, record: see `read_shared`. weights: see `expect_weights`. kept: gates, cells, queries, keys. arriving: the
// gradients of output, summary, c_T, of c after each step of a past, and of the memory; each may be None.
// visited: of past steps the numbers of the steps (T, B) and of the memories touched (B, M); else empty.
// d_x: where the gradient of x goes, None if it is not wanted. M0: how many of the memory's slots are the memories given.
// Returns the gradients of h0, c0, the memories given, weight_ih, weight_hh, the joint bias, W1, W2 and the score; those
// that there are none of are empty.
inline std::vector<Tensor> differentiate(Tensors given, Tensors weights, Tensors kept, Tensors record, Tensors arriving,
                                         std::vector<Tensor> visited, Tensors past, Optional d_x, int64_t M0,
                                         std::vector<int64_t> rule) {
  expect_length("arriving", arriving, 5);
  if (visited.empty() != past.empty()) refuse("visited must be given with a past, and with it alone");
  if (!visited.empty()) expect_length("visited", visited, 2);
  expect_length("record", record, 8);
  const Tensor& output = present("output", record[0]);
  return by_type("output", output, [&](auto zero) -> std::vector<Tensor> {
    using T = decltype(zero);
    BackwardArgs<T> a = {};
    Problem& p = a.problem;
    p = read_pass(given, kept, record, rule, visited.empty() ? 3 : 2);
    read_shared<T>(a, given, record);
    const int64_t width = p.D;
    expect_weights<T>(weights, p, a.inputs);
    if (p.D != width) refuse("W1 must be as wide as keys, ", width, ", got ", p.D);
    between("M0", M0, 0, p.M);
    if (visited.empty()) visited = visited_steps<T>(given, record, arriving, p, rule);
    const Tensors packed = pack_weights<T>(weights, p, false, d_x.has_value());
    const Tensor d_recalled = begun_credit<T>(arriving[4], visited[1], output, p);
    const Tensor d_keys = zeros(output, {d_recalled.size(0), p.key_width()});
    const auto like = [&](const Optional& x, int64_t columns) {
      return x.has_value() ? zeros(output, {x->size(0), columns}) : make(output, {0});
    };
    const Tensor d_input = like(weights[0], a.inputs), d_hidden = like(weights[1], p.H), d_w1 = like(weights[2], p.H),
                 d_w2 = like(weights[3], p.H);
    if (T* to = data_if_given<T>("d_x", d_x, {p.T, p.B, a.inputs})) std::fill_n(to, d_x->numel(), T(0));
    const Tensor d_h0 = zeros(output, {p.B, p.H}), d_c0 = zeros(output, {p.B, p.c_width()});
    const Tensor d_bias = zeros(output, {p.B, p.gates()}), d_score = zeros(output, {p.B, p.score_width()});
    const auto if_keyed = [&](const Tensor& x) { return p.keyed() ? Optional(x) : Optional(); };
    backward(!past.empty(), given, packed, kept, record, {arriving[0], arriving[1], arriving[2], arriving[3]}, visited[0],
             visited[1], {d_recalled, d_keys}, {d_input, d_hidden, if_keyed(d_w1), if_keyed(d_w2)},
             {d_x, d_h0, d_c0, d_bias, d_score}, past, rule, 0);
    const Tensor d_memory0 = given_back<T>(d_recalled, d_keys, visited[1], *given[4], packed, p, M0);
    return {d_h0, d_c0, d_memory0, d_input, d_hidden, sum_of_rows<T>(d_bias), d_w1, d_w2, sum_of_rows<T>(d_score)};
  });
}

}  // namespace reminding
