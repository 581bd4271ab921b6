// The loops over time, one call each: arguments are read (arguments.h) and indices checked (indices.h) before a loop runs.
// The loops check nothing. Rows of the batch are independent, and are the unit of parallel work.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "huge_pages.h"
#include "indices.h"
#include "isa.h"
#include "parallel.h"
#include "passes.h"
#include "problem.h"
#include "reach.h"

namespace reminding {

template <class Work>
void for_rows(int64_t first, int64_t rows, int64_t row_bytes, const Work& work) {
  for_chunks(Chunks(rows, row_bytes), first, [&](int64_t, int64_t begin, int64_t end) { work(begin, end); });
}

template <class Call>
auto by_type(const char* name, const Tensor& x, const Call& call) {
  if (x.scalar_type() == ScalarType::Double) return call(double());
  if (x.scalar_type() != ScalarType::Float) refuse(name, " must be float32 or float64, got ", description(x));
  return call(float());
}

// Packs rows of a weight, each of so many columns, as the B of gemm.h: transposed for `x . weight^T`, or as they are for
// `x . weight`.
template <class T>
void pack_rows(T* packed, const T* weight, int64_t rows, int64_t columns, bool transpose) {
  if (transpose) kernels<T>().pack(packed, weight, columns, rows, 1, columns);
  else kernels<T>().pack(packed, weight, rows, columns, columns, 1);
}

inline Tensor pack_one(const Tensor& weight, bool transpose) {
  const auto sizes = measured("weight", weight, 2).sizes();
  const int64_t rows = sizes[0], columns = sizes[1];
  return by_type("weight", weight, [&](auto zero) {
    using T = decltype(zero);
    const T* source = data<T>("weight", weight, {rows, columns});
    const int64_t size = transpose ? kernels<T>().packed_size(columns, rows) : kernels<T>().packed_size(rows, columns);
    Tensor packed = torch::stable::new_empty(weight, {size});
    if (source != nullptr) pack_rows(static_cast<T*>(packed.data_ptr()), source, rows, columns, transpose);
    return packed;
  });
}

inline std::vector<Tensor> pack(std::vector<Tensor> tensors, bool transpose) {
  std::vector<Tensor> packed;
  packed.reserve(tensors.size());
  for (const Tensor& weight : tensors) packed.push_back(pack_one(weight, transpose));
  return packed;
}

// Numbers the chosen elements of a mask (rows, columns): their numbers, -1 for the others; and their places in it.
inline std::tuple<Tensor, Tensor> number(Tensor mask) {
  const auto sizes = measured("mask", mask, 2).sizes();
  const Flag* chosen = data<Flag>("mask", mask, {sizes[0], sizes[1]});
  const int64_t size = mask.numel();
  if (size > largest_size) refuse("mask must have at most ", largest_size, " elements, got ", size);
  const int64_t count = std::count_if(chosen, chosen + size, [](Flag flag) { return flag != 0; });
  Tensor index = torch::stable::new_empty(mask, {sizes[0], sizes[1]}, ScalarType::Int);
  Tensor place = torch::stable::new_empty(mask, {count}, ScalarType::Long);
  int32_t* numbers = static_cast<int32_t*>(index.data_ptr());
  int64_t* places = static_cast<int64_t*>(place.data_ptr());
  int32_t next = 0;
  for (int64_t i = 0; i < size; ++i) {
    numbers[i] = chosen[i] != 0 ? next : -1;
    if (chosen[i] != 0) places[next++] = i;
  }
  return {index, place};
}

// kept: gates, cells, queries, keys; all but keys may be None. memories: received, alive, behind. Other lists: see passes.h.
// milestones: receives c before every step t with t % stride == offset; or None.
inline void forward_rows(Tensors given, Tensor bias, Tensors packed, Tensors kept, Tensors record, Tensor c_T, Tensor peak,
                         Tensors memories, Optional milestones, int64_t stride, int64_t offset, std::vector<int64_t> rule,
                         int64_t first_row) {
  by_type("bias", bias, [&](auto zero) {
    using T = decltype(zero);
    ForwardArgs<T> a = {};
    a.problem = read_pass(given, kept, record, rule, 3);
    const Problem& p = a.problem;
    const int64_t rows = kept[3]->size(0);
    expect_rows(p, first_row, rows);
    expect_length("memories", memories, 3);
    read_shared<T>(a, given, record);
    expect_counts(p, a.count0, false);
    a.lengths = data_if_given<int64_t>("lengths", given[6], {p.B});
    expect_lengths(p, a.lengths);
    a.factor = data_if_given<T>("factor", given[7], {p.B, p.H});
    a.first_row = first_row;
    a.packed = read_packed<T>(packed, p, a.inputs, true, true);
    a.bias = data<T>("bias", bias, {p.gates()});
    a.gates = data_if_given<T>("gates", kept[0], {rows, p.T, p.gates()});
    a.cells = data_if_given<T>("cells", kept[1], {rows, p.T, p.c_width()});
    a.queries = data_if_given<T>("queries", kept[2], {rows, p.T, p.D});
    a.keys = data<T>("keys", kept[3], {rows, p.M, p.D});
    a.entering_c = record[7].has_value() ? read_cuts<T>(p, record[7]) : nullptr;
    a.max_cuts = p.most_cuts();
    a.c_T = data<T>("c_T", c_T, {p.B, p.c_width()});
    a.peak = data<T>("peak", peak, {p.B, 2});
    a.received = data<T>("received", memories[0], {p.B, p.bounded() ? p.M : 0});
    a.alive = data<int64_t>("alive", memories[1], {p.B, p.bounded() ? p.most_alive() : 0});
    a.behind = data<int32_t>("behind", memories[2], {p.T, p.B});
    a.stride = between("stride", stride, 1, std::numeric_limits<int64_t>::max());
    a.offset = between("offset", offset, 0, stride - 1);
    const int64_t passed = offset < p.T ? (p.T - 1 - offset) / stride + 1 : 0;
    a.milestones = data_if_given<T>("milestones", milestones, {passed, p.B, p.c_width()});
    const int64_t row_bytes = p.has_keys() ? p.most_alive() * p.D * static_cast<int64_t>(sizeof(T)) : 0;
    for_rows(first_row, rows, row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().forward(a, begin, end); });
  });
}

// Calls work(sums, begin, end) for chunks of rows. sums: where the gradients of weight_ih, weight_hh, W1 and W2 are
// added, the last two None if the score has no keys.
template <class T, class Work>
static void sum_over_rows(const Tensors& sums, const BackwardArgs<T>& a, const Work& work) {
  const Problem& p = a.problem;
  expect_length("sums", sums, 4);
  typename OrderedSum<T, 4>::Totals totals = {};
  totals[0] = {data<T>("sums: weight_ih", sums[0], {p.recurrent(), a.inputs}), p.recurrent() * a.inputs};
  totals[1] = {data<T>("sums: weight_hh", sums[1], {p.recurrent(), p.H}), p.recurrent() * p.H};
  for (size_t i = 2; i < 4; ++i) {
    const char* name = i == 2 ? "sums: W1" : "sums: W2";
    if (p.keyed()) totals[i] = {data<T>(name, sums[i], {p.D, p.H}), p.D * p.H};
    else expect_none(name, sums[i]);
  }
  const Chunks chunks(a.rows, p.M * (3 * p.D + 3 * p.H) * static_cast<int64_t>(sizeof(T)) / 2);
  OrderedSum<T, 4> sum(totals, chunks);
  for_chunks(chunks, a.first_row, [&](int64_t chunk, int64_t begin, int64_t end) {
    const auto [input, hidden, memory, query] = sum.begin(chunk);
    work(WeightSums<T>{input, hidden, memory, query}, begin, end);
    sum.end(chunk);
  });
}

// The lists are described in passes.h.
inline void backward(bool compact, Tensors given, Tensors packed, Tensors kept, Tensors record, Tensors arriving,
                     Tensor pair, Tensor touched, Tensors credit, Tensors sums, Tensors leaving,
                     Tensors past, std::vector<int64_t> rule, int64_t first_row) {
  expect_length("record", record, 8);
  by_type("output", present("output", record[0]), [&](auto zero) {
    using T = decltype(zero);
    BackwardArgs<T> a = {};
    a.problem = read_pass(given, kept, record, rule, compact ? 2 : 3);
    const Problem& p = a.problem;
    a.first_row = first_row;
    a.rows = measured("pair", pair, 2).size(1);
    expect_rows(p, first_row, a.rows);
    read_shared<T>(a, given, record);
    a.past = read_past<T>(past, p);
    a.factor = data_if_given<T>("factor", given[7], past.empty() ? Shape{p.B, p.H} : Shape{p.T, p.B, p.H});
    expect_counts(p, a.count0, !past.empty());
    expect_past(p, a.past, first_row, a.rows);
    a.compact = compact;
    if (!compact && !past.empty()) refuse("past must be empty where the forward pass was kept");
    a.pair = data<int32_t>("pair", pair, {p.T, a.rows});
    a.touched = data<int32_t>("touched", touched, {a.rows, p.M});
    expect_length("credit", credit, 2);
    a.slots_touched = measured("credit: d_recalled", present("credit: d_recalled", credit[0]), 2).size(0);
    read_gradients(a, arriving, credit, leaving, !past.empty());
    read_kept(a, kept, record[7], !past.empty());
    a.packed = read_packed<T>(packed, p, a.inputs, false, leaving[0].has_value());
    expect_numbering("touched", a.touched, a.rows * p.M, a.slots_touched);
    expect_whole_segments(p, a.past, a.step0, a.pair, first_row, a.rows);
    expect_recalls(a);
    sum_over_rows<T>(sums, a, [&](const WeightSums<T>& own_sums, int64_t begin, int64_t end) {
      BackwardArgs<T> own = a;
      own.sums = own_sums;
      kernels<T>().backward(own, begin, end);
    });
  });
}

inline void replay(Tensor gates, Tensor cells, Tensor h_hat, Tensor h0, Tensor c0, Optional entering_c, Tensor output,
                   Tensor memory, Tensor step0, Tensor pair, Tensors past, std::vector<int64_t> rule,
                   int64_t first_row) {
  by_type("output", output, [&](auto zero) {
    using T = decltype(zero);
    ReplayArgs<T> a = {};
    a.problem = read_problem(output, memory, rule);
    const Problem& p = a.problem;
    const int64_t pairs = measured("gates", gates, 2).size(0);
    a.first_row = first_row;
    a.rows = measured("pair", pair, 2).size(1);
    expect_rows(p, first_row, a.rows);
    a.past = read_past<T>(past, p);
    expect_past(p, a.past, first_row, a.rows);
    a.gates = data<T>("gates", gates, {pairs, p.gates()});
    a.cells = data<T>("cells", cells, {pairs, p.c_width()});
    a.h_hat = data<T>("h_hat", h_hat, {pairs, p.H});
    a.h0 = data<T>("h0", h0, {p.B, p.H});
    a.c0 = data<T>("c0", c0, {p.B, p.c_width()});
    a.entering_c = past.empty() ? read_cuts<T>(p, entering_c) : nullptr;
    a.max_cuts = p.most_cuts();
    a.output = data<T>("output", output, {p.T, p.B, p.H});
    a.step0 = data<int64_t>("step0", step0, {p.B});
    expect_steps(p, a.step0);
    a.pair = data<int32_t>("pair", pair, {p.T, a.rows});
    expect_numbering("pair", a.pair, p.T * a.rows, pairs);
    expect_whole_segments(p, a.past, a.step0, a.pair, first_row, a.rows);
    for_rows(first_row, a.rows, 0, [&](int64_t begin, int64_t end) { kernels<T>().replay(a, begin, end); });
  });
}

inline void reach(Tensor live, Tensor touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, Optional lengths,
                  Tensor slots, Tensor edge, Tensor inverse, Optional d_output, Optional d_summary, Optional d_c_T,
                  Optional d_c, Optional d_memory, Tensors past, std::vector<int64_t> rule) {
  by_type("output", output, [&](auto zero) {
    using T = decltype(zero);
    ReachArgs<T> a = {};
    a.problem = read_problem(output, memory, rule);
    const Problem& p = a.problem;
    const Shape steps = {p.T, p.B, p.H}, memories = {p.B, p.M, p.H};
    data<T>("output", output, steps);
    data<T>("memory", memory, memories);
    a.past = read_past<T>(past, p);
    expect_past(p, a.past, 0, p.B);
    a.step0 = data<int64_t>("step0", step0, {p.B});
    a.count0 = data<int64_t>("count0", count0, {p.B});
    expect_steps(p, a.step0);
    expect_counts(p, a.count0, !past.empty());
    a.lengths = data_if_given<int64_t>("lengths", lengths, {p.B});
    expect_lengths(p, a.lengths);
    a.d_output = data_if_given<T>("d_output", d_output, steps);
    a.d_summary = data_if_given<T>("d_summary", d_summary, steps);
    a.d_c_T = data_if_given<T>("d_c_T", d_c_T, {p.B, p.c_width()});
    if (!past.empty() && p.has_c()) a.d_c = data_if_given<T>("d_c", d_c, steps);
    else expect_none("d_c", d_c);
    a.d_memory = data_if_given<T>("d_memory", d_memory, memories);
    a.slots = data<int32_t>("slots", slots, {p.T, p.B, p.k_top});
    a.edge = data<int32_t>("edge", edge, {p.T, p.B});
    a.inverse = data<T>("inverse", inverse, {p.T, p.B});
    a.live = data<Flag>("live", live, {p.T, p.B});
    a.touched = data<Flag>("touched", touched, {p.B, p.M});
    Reach<T>(a).run();
  });
}

// Copies the gradients of memories that were given with a call to their places. d_memory0: (B, M0, H). d_recalled: (S, H),
// of the slots that touched (rows, M) numbers. count0: how many memories each row was given, (B,).
inline void give_back(Tensor d_memory0, Tensor d_recalled, Tensor touched, Tensor count0, int64_t first_row) {
  by_type("d_memory0", d_memory0, [&](auto zero) {
    using T = decltype(zero);
    const auto sizes = measured("d_memory0", d_memory0, 3).sizes();
    const int64_t B = sizes[0], M0 = sizes[1], H = sizes[2], rows = measured("touched", touched, 2).size(0);
    const int64_t M = touched.size(1), S = measured("d_recalled", d_recalled, 2).size(0);
    T* to = data<T>("d_memory0", d_memory0, {B, M0, H});
    const T* from = data<T>("d_recalled", d_recalled, {S, H});
    const int32_t* number = data<int32_t>("touched", touched, {rows, M});
    const int64_t* count = data<int64_t>("count0", count0, {B});
    if (rows > B) refuse("touched must have at most ", B, " rows, got ", rows);
    between("first_row", first_row, 0, B - rows);
    expect_numbering("touched", number, rows * M, S);
    for (int64_t b = 0; b < B; ++b) expect_element("count0", b, count[b], 0, std::min(M0, M));
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t b = first_row + r, given = count[b];
      for (int64_t m = 0; m < given; ++m)
        if (number[r * M + m] >= 0) std::copy_n(from + number[r * M + m] * H, H, to + (b * M0 + m) * H);
    }
  });
}

// Asks for huge pages for tensors that span many pages, and writes to each page once. Each new page of 4 KB costs a
// fault when it is first written; together these take a tenth of the time of the arithmetic. Where memory is in pieces,
// the kernel moves other pages out of the way first, which can take 5 ms for each huge page, 20 times as long as the
// small pages that it stands for. So the rest stays in small pages for a while as soon as one has taken long.
inline void ask_for_huge_pages(std::vector<Tensor> tensors) {
#if defined(__linux__)
  constexpr size_t worthwhile = size_t(4) << 20;
  for (const Tensor& x : tensors) {
    const size_t bytes = static_cast<size_t>(x.numel()) * x.element_size();
    if (!x.is_contiguous() || !has_memory(x))
      refuse("tensors must be contiguous, and have memory, got strides ", shape_name(x.strides()));
    if (bytes >= worthwhile) HugePages::fill(static_cast<char*>(x.data_ptr()), bytes);
  }
#endif
}

}  // namespace reminding
