// The raw operators behind reminding/ops/cpu_op, which are not for users: loops over time (loops.h), whole passes (whole_*.h),
// and what streams need besides.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "arguments.h"
#include "fingerprint.h"
#include "isa.h"
#include "layout.h"
#include "loops.h"
#include "passes.h"
#include "problem.h"
#include "whole_backward.h"
#include "whole_forward.h"
#include "whole_replay.h"

namespace reminding {

template <class T>
static bool all_finite(const T* x, int64_t size) {
  return std::all_of(x, x + size, [](T value) { return std::isfinite(value); });
}

// The steps of x (steps, inputs), those that are not finite in all features NaN in all of them, in `copy`; x if none is.
template <class T>
static const T* whole_steps(const T* x, int64_t steps, int64_t inputs, std::vector<T>& copy) {
  if (all_finite(x, steps * inputs)) return x;
  copy.assign(x, x + steps * inputs);
  for (auto step = copy.begin(); step != copy.end(); step += inputs)
    if (!all_finite(&*step, inputs)) std::fill_n(step, inputs, std::numeric_limits<T>::quiet_NaN());
  return copy.data();
}

// Where the output is not finite, nothing is said of what was recalled.
template <class T>
static void forget_recalls(const ForwardArgs<T>& a) {
  const Problem& p = a.problem;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  for (int64_t at = 0; at < p.T * p.B; ++at) {
    if (all_finite(a.output + at * p.H, p.H)) continue;
    std::fill_n(a.summary + at * p.H, p.H, nan);
    std::fill_n(a.weights + at * p.k_top, p.k_top, nan);
    if (a.kept->recalled != nullptr) std::fill_n(a.kept->recalled + at * p.k_top, p.k_top, 0);
  }
}

// Streams served call by call, whose memories are kept from one call to the next.
// state: h, c, step. weights: bias, packed input, hidden, memory, query, then the score's. slots: memory, step, received,
// keys. held: window, tops, points, links, notes. out: output, summary or None, c_T, and what was recalled or None:
// weights, steps.
static void serve(Tensor x, Tensors state, Tensors weights, Tensors slots, Tensors held, Tensors out,
                  std::vector<int64_t> rule) {
  expect_length("weights", weights, 6);
  expect_length("slots", slots, 4);
  by_type("x", x, [&](auto zero) {
    using T = decltype(zero);
    ForwardArgs<T> a = {};
    a.problem = read_served(out, slots, rule);
    const Problem& p = a.problem;
    Kept<T> kept = {};
    read_served<T>(a, kept, x, state, slots, held, out);
    a.bias = data<T>("bias", weights[0], {p.gates()});
    a.packed = read_packed<T>({weights[1], weights[2], weights[3], weights[4]}, p, a.inputs, true, true);
    if (p.score_width() > 0) a.score = data<T>("score", weights[5], {p.score_width()});
    else expect_none("score", weights[5]);
    const size_t steps = static_cast<size_t>(p.T * p.B), recalls = steps * static_cast<size_t>(p.k_top);
    std::vector<int32_t> places(recalls), edge(steps);
    const size_t summaries = out[1].has_value() ? 0 : steps * static_cast<size_t>(p.H);
    std::vector<T> spare(out[3].has_value() ? 0 : recalls), summary(summaries);
    std::vector<T> inverse(steps), peak(static_cast<size_t>(2 * p.B));
    a.slots = places.data();
    a.edge = edge.data();
    a.inverse = inverse.data();
    a.peak = peak.data();
    if (!out[3].has_value()) a.weights = spare.data();
    if (!out[1].has_value()) a.summary = summary.data();
    const int64_t row_bytes = p.has_keys() ? p.most_alive() * p.D * static_cast<int64_t>(sizeof(T)) : 0;
    std::vector<T> input;
    a.x = whole_steps(a.x, p.T * p.B, a.inputs, input);
    for_rows(0, p.B, row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().forward(a, begin, end); });
    if (out[1].has_value() || out[3].has_value()) forget_recalls(a);
  });
}

// memory: step, passes, credited, see reach.h; other arguments: see `read_segments`.
// until: in: the steps of each segment that credit reaches from outside; out: all that it can reach.
static void reach_past(Tensor until, std::vector<Tensor> segments, Tensor read, std::vector<Tensor> memory,
                       std::vector<int64_t> rule) {
  expect_length("memory", memory, 3);
  PastReachArgs a = {read_segments(segments, read, memory[0], memory[1], rule), nullptr, nullptr};
  a.credited = data<Flag>("memory: credited", memory[2], {a.rows, a.problem.M});
  a.until = data<int32_t>("until", until, {a.segments});
  for (int64_t i = 0; i < a.segments; ++i) expect_element("until", i, a.until[i], 0, a.steps[i]);
  PastReach(a).run();
}

static void exponentiate(Tensor x) {
  by_type("x", x, [&](auto zero) {
    using T = decltype(zero);
    const auto sizes = measured("x", x, 2).sizes();
    kernels<T>().exponentiate(data<T>("x", x, {sizes[0], sizes[1]}), x.numel());
  });
}

// A row's scores and the bounds on them, (levels, M), from keys (M, D), a query (D,) and the score's weight: for tests.
static Tensor bounds(Tensor keys, Tensor query, Optional weight, std::vector<int64_t> rule) {
  return by_type("keys", keys, [&](auto zero) {
    using T = decltype(zero);
    const auto sizes = measured("keys", keys, 2).sizes();
    Problem p = read_rule(rule);
    p.T = p.B = 1;
    p.M = sizes[0];
    p.D = sizes[1];
    if (!p.has_keys() || p.D < 1) refuse("rule: score must have keys, of a width of at least 1, got ", p.D);
    const T* w3 = nullptr;
    if (p.score == Score::additive) w3 = data<T>("weight", weight, {p.D});
    else expect_none("weight", weight);
    p.k_top = 1;
    p.search = Search::tree;
    Tensor out = torch::stable::new_empty(keys, {TreeRoom::levels, p.M});
    kernels<T>().bounds(p, data<T>("keys", keys, {p.M, p.D}), data<T>("query", query, {p.D}), w3,
                        static_cast<T*>(out.data_ptr()));
    return out;
  });
}

// Runs in place of an operator when one of its tensors is a negated view. PyTorch resolves these before a call,
// except in lists of optional tensors.
template <auto>
struct Unresolved;
template <class Result, class... Arguments, Result (*op)(Arguments...)>
struct Unresolved<op> {
  static Result call(Arguments...) { refuse("an argument is a negated view; call its resolve_neg() first"); }
};

}  // namespace reminding

STABLE_TORCH_LIBRARY(reminding_cpu, m) {
  m.def("limit_isa(int most) -> int");
  m.def("pack(Tensor[] tensors, bool transpose) -> Tensor[]");
  m.def("number(Tensor mask) -> (Tensor, Tensor)");
  m.def("ask_for_huge_pages(Tensor[] tensors) -> ()");
  m.def("fingerprint(Tensor[] tensors) -> int");
  m.def("exponentiate(Tensor(a!) x) -> ()");
  m.def("bounds(Tensor(a!) keys, Tensor(b!) query, Tensor? weight, int[] rule) -> Tensor");
  m.def(
      "forward(Tensor?[] given, Tensor memory0, Tensor received0, Tensor bias, Tensor?[] weights, int keep, "
      "int[] milestones, int[] rule) -> Tensor[]");
  m.def(
      "differentiate(Tensor?[] given, Tensor?[] weights, Tensor?[] kept, Tensor?[] record, Tensor?[] arriving, "
      "Tensor[] visited, Tensor?[] past, Tensor(a!)? d_x, int M0, int[] rule) -> Tensor[]");
  m.def(
      "serve(Tensor x, Tensor?[] state, Tensor?[] weights, Tensor(a!)?[] slots, Tensor(b!)?[] held, "
      "Tensor(c!)?[] out, int[] rule) -> ()");
  m.def(
      "backward(bool compact, Tensor?[] given, Tensor?[] packed, Tensor?[] kept, Tensor?[] record, "
      "Tensor?[] arriving, Tensor pair, Tensor touched, Tensor(a!)?[] credit, Tensor(b!)?[] sums, "
      "Tensor(c!)?[] leaving, Tensor?[] past, int[] rule, int first_row) -> ()");
  m.def(
      "replay(Tensor(a!) gates, Tensor(b!) cells, Tensor(c!) h_hat, Tensor h0, Tensor c0, Tensor? entering_c, "
      "Tensor output, Tensor memory, Tensor step0, Tensor pair, Tensor?[] past, int[] rule, int first_row) -> ()");
  m.def(
      "replay_past(Tensor x, Tensor(a!) memory, Tensor credited, Tensor read, Tensor entries, Tensor?[] weights, "
      "Tensor bias, Tensor? score, Tensor?[] past, int own, Tensor(b!)[] room, Tensor? factor, int[] rule) -> Tensor[]");
  m.def(
      "reach(Tensor(a!) live, Tensor(b!) touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, "
      "Tensor? lengths, Tensor slots, Tensor edge, Tensor inverse, Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, Tensor? d_c, "
      "Tensor? d_memory, Tensor?[] past, int[] rule) -> ()");
  m.def(
      "give_back(Tensor(a!) d_memory0, Tensor d_recalled, Tensor touched, Tensor count0, int first_row) -> ()");
  m.def("list_past(Tensor[] row, Tensor[] span, Tensor[] begins, Tensor[] sizes, int[] steps) -> Tensor");
  m.def(
      "reach_past(Tensor(a!) until, Tensor[] segments, Tensor read, Tensor[] memory, "
      "int[] rule) -> ()");
  m.def(
      "lay_out_past(Tensor[] segments, Tensor read, Tensor step, Tensor passes, Tensor count, Tensor? cut_at, "
      "int[] rule) -> Tensor[]");
  m.def(
      "gather_past(Tensor[] parts, Tensor part, Tensor base, Tensor stride, Tensor count, Tensor entries, "
      "Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, CompositeExplicitAutograd, m) {
  m.impl("limit_isa", TORCH_BOX(&reminding::limit_isa));
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, CPU, m) {
  m.impl("pack", TORCH_BOX(&reminding::pack));
  m.impl("number", TORCH_BOX(&reminding::number));
  m.impl("ask_for_huge_pages", TORCH_BOX(&reminding::ask_for_huge_pages));
  m.impl("fingerprint", TORCH_BOX(&reminding::fingerprint));
  m.impl("exponentiate", TORCH_BOX(&reminding::exponentiate));
  m.impl("bounds", TORCH_BOX(&reminding::bounds));
  m.impl("forward", TORCH_BOX(&reminding::forward));
  m.impl("serve", TORCH_BOX(&reminding::serve));
  m.impl("differentiate", TORCH_BOX(&reminding::differentiate));
  m.impl("backward", TORCH_BOX(&reminding::backward));
  m.impl("replay", TORCH_BOX(&reminding::replay));
  m.impl("replay_past", TORCH_BOX(&reminding::replay_past));
  m.impl("reach", TORCH_BOX(&reminding::reach));
  m.impl("give_back", TORCH_BOX(&reminding::give_back));
  m.impl("list_past", TORCH_BOX(&reminding::list_past));
  m.impl("reach_past", TORCH_BOX(&reminding::reach_past));
  m.impl("lay_out_past", TORCH_BOX(&reminding::lay_out_past));
  m.impl("gather_past", TORCH_BOX(&reminding::gather_past));
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, Negative, m) {
  m.impl("forward", TORCH_BOX(&reminding::Unresolved<&reminding::forward>::call));
  m.impl("serve", TORCH_BOX(&reminding::Unresolved<&reminding::serve>::call));
  m.impl("differentiate", TORCH_BOX(&reminding::Unresolved<&reminding::differentiate>::call));
  m.impl("backward", TORCH_BOX(&reminding::Unresolved<&reminding::backward>::call));
  m.impl("replay", TORCH_BOX(&reminding::Unresolved<&reminding::replay>::call));
  m.impl("replay_past", TORCH_BOX(&reminding::Unresolved<&reminding::replay_past>::call));
  m.impl("reach", TORCH_BOX(&reminding::Unresolved<&reminding::reach>::call));
}
