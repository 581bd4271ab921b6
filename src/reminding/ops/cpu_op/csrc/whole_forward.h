// A whole forward pass in one call.
//
// Shapes: see problem.h.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "loops.h"
#include "weights.h"

namespace reminding {

// What a forward pass keeps for the backward pass.
enum class Keep : int64_t { nothing = 0, gates = 1, replay = 2 };

// The tensors that a forward pass fills; forward.py describes them in `_empty_outputs`.
struct ForwardOutputs {
  ForwardOutputs(const Tensor& x, const Problem& p, Keep keep, int64_t passed)
      : output(make(x, {p.T, p.B, p.H})), summary(make(x, {p.T, p.B, p.H})), c_T(make(x, {p.B, p.c_width()})),
        memory(make(x, {p.B, p.M, p.H})), peak(make(x, {p.B, 2})), slots(make(x, {p.T, p.B, p.k_top}, ScalarType::Int)),
        weights(make(x, {p.T, p.B, p.k_top})), received(make(x, {p.B, p.bounded() ? p.M : 0})),
        alive(make(x, {p.B, p.bounded() ? p.most_alive() : 0}, ScalarType::Long)),
        milestones(make(x, {passed, p.B, p.c_width()})), edge(make(x, {p.T, p.B}, ScalarType::Int)),
        behind(make(x, {p.T, p.B}, ScalarType::Int)), inverse(make(x, {p.T, p.B})), gates(make(x, {kept(p, keep), p.T, p.gates()})),
        cells(make(x, {kept(p, keep), p.T, p.c_width()})), queries(make(x, {kept(p, keep), p.T, p.D})),
        keys(make(x, {kept(p, keep), p.M, p.D})),
        entering_c(make(x, {p.B, keep == Keep::replay && p.has_c() ? p.most_cuts() : 0, p.H})) {}

  static int64_t kept(const Problem& p, Keep keep) { return keep == Keep::gates ? p.B : 0; }
  Tensors record(Keep keep) const {
    return {output, summary, memory, slots, edge, weights, inverse, keep == Keep::replay ? Optional(entering_c) : std::nullopt};
  }
  std::vector<Tensor> all() const {
    return {output, summary, c_T, memory, peak, slots, weights, received, alive, milestones, behind, edge, inverse, gates,
            cells, queries, keys, entering_c};
  }

  Tensor output, summary, c_T, memory, peak, slots, weights, received, alive, milestones, edge, behind, inverse, gates,
      cells, queries, keys, entering_c;
};

// Copies the memories given (B, M0, H), and the weights that they have received, to the first slots of each row.
template <class T>
void take_memories(const ForwardOutputs& out, const Problem& p, const T* memory0, const T* received0, int64_t M0) {
  T *memory = elements<T>(out.memory), *received = p.bounded() ? elements<T>(out.received) : nullptr;
  for (int64_t b = 0; b < p.B; ++b) {
    if (M0 > 0) std::copy_n(memory0 + b * M0 * p.H, M0 * p.H, memory + b * p.M * p.H);
    if (received == nullptr) continue;
    if (M0 > 0) std::copy_n(received0 + b * M0, M0, received + b * p.M);
    std::fill_n(received + b * p.M + M0, p.M - M0, T(0));
  }
}

// What is told of steps that a row has not: nothing was recalled, and all else is 0.
template <class T>
void leave_empty(const ForwardOutputs& out, const Problem& p, const int64_t* lengths) {
  const auto fill = [](const Tensor& x, int64_t at, int64_t width, auto value) {
    std::fill_n(elements<decltype(value)>(x) + at * width, width, value);
  };
  for (int64_t b = 0; lengths != nullptr && b < p.B; ++b) {
    for (int64_t t = std::max<int64_t>(lengths[b], 0); t < p.T; ++t) {
      const int64_t at = t * p.B + b;
      for (const Tensor& x : {out.output, out.summary}) fill(x, at, p.H, T(0));
      fill(out.slots, at, p.k_top, int32_t(-1));
      fill(out.weights, at, p.k_top, T(0));
      fill(out.inverse, at, 1, T(no_recall));
      for (const Tensor& x : {out.edge, out.behind}) fill(x, at, 1, int32_t(-1));
    }
  }
}

// W1 m of the memories given in rows [first, last), into their keys, (last - first, M, D).
template <class T>
void make_given_keys(const Tensor& keys, const Tensor& memory, const Tensors& packed, const Problem& p, int64_t first,
                     int64_t last, int64_t M0) {
  if (!p.keyed() || M0 == 0) return;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (int64_t b = first; b < last; ++b) {
    for (int64_t m = 0; m < M0; ++m) {
      from.push_back(elements<T>(memory) + (b * p.M + m) * p.H);
      to.push_back(elements<T>(keys) + ((b - first) * p.M + m) * p.D);
    }
  }
  multiply_rows<T>(from, elements<T>(*packed[2]), to, p.H, p.D, false);
}

// Rows that are worked through at once, so that what only they need is small beside what is kept; as `row_groups`.
inline int64_t group_size(const Problem& p) {
  constexpr int64_t groups = 8, smallest = 4096;  // (step, row) pairs
  const int64_t steps = std::max<int64_t>(p.T, 1);
  return std::max<int64_t>({(p.B + groups - 1) / groups, std::min(p.B, (smallest + steps - 1) / steps), 1});
}

// A forward pass over all rows. given: see `read_shared`. weights: see `expect_weights`.
// milestones: empty, or stride and offset, see `forward_rows`. Returns what `ForwardOutputs` lists.
inline std::vector<Tensor> forward(Tensors given, Tensor memory0, Tensor received0, Tensor bias, Tensors weights,
                                   int64_t keeping, std::vector<int64_t> milestones, std::vector<int64_t> rule) {
  expect_length("given", given, 8);
  const Keep keep = static_cast<Keep>(between("keep", keeping, 0, 2));
  const Tensor& x = present("x", given[0]);
  return by_type("x", x, [&](auto zero) {
    using T = decltype(zero);
    Problem p = read_rule(rule);
    const int64_t inputs = measured("x", x, 3).size(2), M0 = measured("memory0", memory0, 3).size(1);
    p.T = x.size(0);
    p.B = x.size(1);
    p.H = measured("h0", present("h0", given[1]), 2).size(1);
    if (p.H < 1) refuse("h0 must have a hidden size of at least 1, got ", description(*given[1]));
    p.M = M0 + p.room();
    expect_weights<T>(weights, p, inputs);
    const T* memories = data<T>("memory0", memory0, {p.B, M0, p.H});
    const T* had = p.bounded() ? data<T>("received0", received0, {p.B, M0}) : nullptr;
    if (!milestones.empty()) expect_length("milestones", milestones, 2);
    const int64_t most = std::numeric_limits<int64_t>::max();
    const int64_t stride = milestones.empty() ? 1 : between("milestones: stride", milestones[0], 1, most);
    const int64_t offset = milestones.empty() ? 0 : between("milestones: offset", milestones[1], 0, stride - 1);
    const int64_t passed = milestones.empty() || offset >= p.T ? 0 : (p.T - 1 - offset) / stride + 1;
    const ForwardOutputs out(x, p, keep, passed);
    ask_for_huge_pages(out.all());
    take_memories<T>(out, p, memories, had, M0);
    leave_empty<T>(out, p, data_if_given<int64_t>("lengths", given[6], {p.B}));
    if (given[6].has_value()) std::fill_n(elements<T>(out.milestones), out.milestones.numel(), T(0));
    const Tensors packed = pack_weights<T>(weights, p, true, true), record = out.record(keep);
    const Optional noted = milestones.empty() || !p.has_c() ? Optional() : Optional(out.milestones);
    const auto run = [&](int64_t first, int64_t last, Tensors kept) {
      make_given_keys<T>(*kept[3], out.memory, packed, p, first, last, M0);
      forward_rows(given, bias, packed, kept, record, out.c_T, out.peak, {out.received, out.alive, out.behind}, noted, stride, offset,
                   rule, first);
    };
    if (keep == Keep::gates) {
      run(0, p.B, {out.gates, out.cells, out.queries, out.keys});
      return out.all();
    }
    const int64_t group = group_size(p);
    for (int64_t first = 0; first < p.B; first += group) {
      const int64_t last = std::min(first + group, p.B);
      run(first, last, {std::nullopt, std::nullopt, std::nullopt, make(x, {last - first, p.M, p.D})});
    }
    return out.all();
  });
}

}  // namespace reminding
