// The raw operators behind reminding/ops/cpu_op. They fill tensors that the caller made, and are not for users.
//
// Only the loops over time are here. All that PyTorch does well (large products, turning masks into indices) stays in
// Python. Rows of the batch are independent, and are the unit of parallel work.
//
// Each operator reads its arguments (arguments.h) and checks its indices (indices.h) before a loop runs. The loops
// check nothing.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "fingerprint.h"
#include "huge_pages.h"
#include "indices.h"
#include "isa.h"
#include "layout.h"
#include "parallel.h"
#include "passes.h"
#include "problem.h"
#include "reach.h"

namespace reminding {

template <class Work>
static void for_rows(int64_t first, int64_t rows, int64_t row_bytes, const Work& work) {
  for_chunks(Chunks(rows, row_bytes), first, [&](int64_t, int64_t begin, int64_t end) { work(begin, end); });
}

template <class Call>
static auto by_type(const char* name, const Tensor& x, const Call& call) {
  if (x.scalar_type() == ScalarType::Double) return call(double());
  if (x.scalar_type() != ScalarType::Float) refuse(name, " must be float32 or float64, got ", description(x));
  return call(float());
}

// Packs a weight as the B of gemm.h: (N, K) transposed for `rows . weight^T`, or (K, N) as it is for `rows . weight`.
static Tensor pack_one(const Tensor& weight, bool transpose) {
  const auto sizes = measured("weight", weight, 2).sizes();
  const int64_t k = sizes[transpose ? 1 : 0], n = sizes[transpose ? 0 : 1];
  return by_type("weight", weight, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const T* source = data<T>("weight", weight, {sizes[0], sizes[1]});
    Tensor packed = torch::stable::new_empty(weight, {kernel.packed_size(k, n)});
    if (source != nullptr)
      kernel.pack(static_cast<T*>(packed.data_ptr()), source, k, n, transpose ? 1 : n, transpose ? k : 1);
    return packed;
  });
}

static std::vector<Tensor> pack(std::vector<Tensor> tensors, bool transpose) {
  std::vector<Tensor> packed;
  packed.reserve(tensors.size());
  for (const Tensor& weight : tensors) packed.push_back(pack_one(weight, transpose));
  return packed;
}

// Numbers the chosen elements of a mask (rows, columns): their numbers, -1 for the others; and their places in it.
static std::tuple<Tensor, Tensor> number(Tensor mask) {
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

// kept: gates, cells, queries, keys; all but keys may be None. bounded: received, alive. Other lists: see passes.h.
// milestones: receives c before every step t with t % stride == offset; or None.
static void forward(Tensors given, Tensor bias, Tensors packed, Tensors kept, Tensors record, Tensor c_T, Tensor peak,
                    Tensors bounded, Optional milestones, int64_t stride, int64_t offset, std::vector<int64_t> rule,
                    int64_t first_row) {
  by_type("bias", bias, [&](auto zero) {
    using T = decltype(zero);
    ForwardArgs<T> a = {};
    a.problem = read_pass(given, kept, record, rule, 3);
    const Problem& p = a.problem;
    const int64_t rows = kept[3]->size(0);
    expect_rows(p, first_row, rows);
    expect_length("bounded", bounded, 2);
    read_shared<T>(a, given, record);
    expect_counts(p, a.count0, false);
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
    a.received = data<T>("received", bounded[0], {p.B, p.bounded() ? p.M : 0});
    a.alive = data<int64_t>("alive", bounded[1], {p.B, p.bounded() ? p.most_alive() : 0});
    a.stride = between("stride", stride, 1, std::numeric_limits<int64_t>::max());
    a.offset = between("offset", offset, 0, stride - 1);
    const int64_t passed = offset < p.T ? (p.T - 1 - offset) / stride + 1 : 0;
    a.milestones = data_if_given<T>("milestones", milestones, {passed, p.B, p.c_width()});
    const int64_t row_bytes = p.has_keys() ? p.most_alive() * p.D * static_cast<int64_t>(sizeof(T)) : 0;
    for_rows(first_row, rows, row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().forward(a, begin, end); });
  });
}

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
// keys. held: window, tops, bounds, alive, notes. out: output, summary or None, c_T, and what was recalled or None:
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
static void backward(bool compact, Tensors given, Tensors packed, Tensors kept, Tensors record, Tensors arriving,
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

static void replay(Tensor gates, Tensor cells, Tensor h_hat, Tensor h0, Tensor c0, Optional entering_c, Tensor output,
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

// entries: start, column, count. kept: gates, cells, queries, keys. packed: hidden, memory, query, the last two None where
// the score has no keys. Other lists: see passes.h.
static void past_forward(Tensors entries, Tensor read, Optional score, Tensors packed, Tensors kept, Tensors record,
                         Tensor pair, Tensor touched, Tensors past, Tensor peak, int64_t own,
                         std::vector<int64_t> rule) {
  expect_length("record", record, 7);
  by_type("output", present("output", record[0]), [&](auto zero) {
    using T = decltype(zero);
    PastForwardArgs<T> a = {};
    expect_length("entries", entries, 3);
    expect_length("packed", packed, 3);
    Tensors whole = {std::nullopt, packed[0], packed[1], packed[2]};
    read_replayed<T>(a, read, score, kept, record, pair, touched, rule);
    const Problem& p = a.problem;
    a.packed = read_packed<T>(whole, p, 0, true, false);
    a.past = read_past<T>(past, p);
    if (past.empty()) refuse("past must say how the steps are laid out");
    expect_past(p, a.past, 0, p.B);
    a.entries = measured("entries: start", present("entries: start", entries[0]), 1).size(0);
    a.start = data<int64_t>("entries: start", entries[0], {a.entries});
    a.column = data<int64_t>("entries: column", entries[1], {a.entries});
    a.count = data<int64_t>("entries: count", entries[2], {a.entries});
    a.peak = data<T>("peak", peak, {a.entries, 2});
    a.own = between("own", own, -1, std::max<int64_t>(-1, p.M - p.T));
    expect_entries(a);
    for (int64_t i = 0; i < p.T * p.B; ++i) {  // what is not a step of the entries has read nothing
      a.edge[i] = -1;
      a.inverse[i] = T(no_recall);
      for (int64_t k = i * p.k_top; k < (i + 1) * p.k_top; ++k) {
        a.slots[k] = -1;
        a.weights[k] = 0;
      }
    }
    const int64_t row_bytes = (p.gates() + 3 * p.H + p.D) * static_cast<int64_t>(sizeof(T));
    for_rows(0, a.entries, row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().past_forward(a, begin, end); });
  });
}

static void reach(Tensor live, Tensor touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, Tensor slots,
                  Tensor edge, Tensor inverse, Optional d_output, Optional d_summary, Optional d_c_T,
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
static void give_back(Tensor d_memory0, Tensor d_recalled, Tensor touched, Tensor count0, int64_t first_row) {
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

// Finds which steps the entries (start, column, count) lie on, live (T, B), and which memories these read or have credit,
// touched (B, M): a mark of what is credited (B, M0 <= M) is copied. read: (T, B, K), slots, -1 where none.
static void visit_past(std::vector<Tensor> entries, Tensor read, Tensor credited, Tensor live, Tensor touched) {
  expect_length("entries", entries, 3);
  const auto sizes = measured("read", read, 3).sizes();
  const int64_t T = sizes[0], B = sizes[1], K = sizes[2], M = measured("touched", touched, 2).size(1);
  const int64_t known = measured("credited", credited, 2).size(1), count = measured("entries: start", entries[0], 1).size(0);
  const int32_t* slots = data<int32_t>("read", read, {T, B, K});
  const Flag* given = data<Flag>("credited", credited, {B, between("credited: width", known, 0, M)});
  Flag *on = data<Flag>("live", live, {T, B}), *at = data<Flag>("touched", touched, {B, M});
  const int64_t *start = data<int64_t>("entries: start", entries[0], {count}),
                *column = data<int64_t>("entries: column", entries[1], {count}),
                *steps = data<int64_t>("entries: count", entries[2], {count});
  std::fill_n(on, T * B, Flag(0));
  for (int64_t b = 0; b < B; ++b) {
    std::copy_n(given + b * known, known, at + b * M);
    std::fill_n(at + b * M + known, M - known, Flag(0));
  }
  for (int64_t i = 0; i < count; ++i) {
    expect_element("entries: column", i, column[i], 0, B - 1);
    expect_element("entries: start", i, start[i], 0, T);
    expect_element("entries: count", i, steps[i], 0, T - start[i]);
    for (int64_t t = start[i]; t < start[i] + steps[i]; ++t) {
      const int64_t place = t * B + column[i];
      on[place] = 1;
      for (int64_t k = 0; k < K && slots[place * K + k] >= 0; ++k) {
        expect_element("read", place * K + k, slots[place * K + k], 0, M - 1);
        at[column[i] * M + slots[place * K + k]] = 1;
      }
    }
  }
}

// Asks for huge pages for tensors that span many pages, and writes to each page once. Each new page of 4 KB costs a
// fault when it is first written; together these take a tenth of the time of the arithmetic. Where memory is in pieces,
// the kernel moves other pages out of the way first, which can take 5 ms for each huge page, 20 times as long as the
// small pages that it stands for. So the rest stays in small pages for a while as soon as one has taken long.
static void ask_for_huge_pages(std::vector<Tensor> tensors) {
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
    Tensor out = torch::stable::new_empty(keys, {Levels(p.M).size, p.M});
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
  m.def("visit_past(Tensor[] entries, Tensor read, Tensor credited, Tensor(a!) live, Tensor(b!) touched) -> ()");
  m.def("fingerprint(Tensor[] tensors) -> int");
  m.def("exponentiate(Tensor(a!) x) -> ()");
  m.def("bounds(Tensor(a!) keys, Tensor(b!) query, Tensor? weight, int[] rule) -> Tensor");
  m.def(
      "forward(Tensor?[] given, Tensor bias, Tensor?[] packed, Tensor(a!)?[] kept, Tensor(b!)?[] record, "
      "Tensor(c!) c_T, Tensor(d!) peak, Tensor(e!)?[] bounded, Tensor(f!)? milestones, int stride, int offset, "
      "int[] rule, int first_row) -> ()");
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
      "past_forward(Tensor?[] entries, Tensor read, Tensor? score, Tensor?[] packed, Tensor(a!)?[] kept, "
      "Tensor(b!)?[] record, Tensor pair, Tensor touched, Tensor?[] past, Tensor(c!) peak, int own, int[] rule) -> ()");
  m.def(
      "reach(Tensor(a!) live, Tensor(b!) touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, "
      "Tensor slots, Tensor edge, Tensor inverse, Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, Tensor? d_c, "
      "Tensor? d_memory, Tensor?[] past, int[] rule) -> ()");
  m.def(
      "give_back(Tensor(a!) d_memory0, Tensor d_recalled, Tensor touched, Tensor count0, int first_row) -> ()");
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
  m.impl("visit_past", TORCH_BOX(&reminding::visit_past));
  m.impl("fingerprint", TORCH_BOX(&reminding::fingerprint));
  m.impl("exponentiate", TORCH_BOX(&reminding::exponentiate));
  m.impl("bounds", TORCH_BOX(&reminding::bounds));
  m.impl("forward", TORCH_BOX(&reminding::forward));
  m.impl("serve", TORCH_BOX(&reminding::serve));
  m.impl("backward", TORCH_BOX(&reminding::backward));
  m.impl("replay", TORCH_BOX(&reminding::replay));
  m.impl("past_forward", TORCH_BOX(&reminding::past_forward));
  m.impl("reach", TORCH_BOX(&reminding::reach));
  m.impl("give_back", TORCH_BOX(&reminding::give_back));
  m.impl("reach_past", TORCH_BOX(&reminding::reach_past));
  m.impl("lay_out_past", TORCH_BOX(&reminding::lay_out_past));
  m.impl("gather_past", TORCH_BOX(&reminding::gather_past));
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, Negative, m) {
  m.impl("forward", TORCH_BOX(&reminding::Unresolved<&reminding::forward>::call));
  m.impl("serve", TORCH_BOX(&reminding::Unresolved<&reminding::serve>::call));
  m.impl("backward", TORCH_BOX(&reminding::Unresolved<&reminding::backward>::call));
  m.impl("replay", TORCH_BOX(&reminding::Unresolved<&reminding::replay>::call));
  m.impl("past_forward", TORCH_BOX(&reminding::Unresolved<&reminding::past_forward>::call));
  m.impl("reach", TORCH_BOX(&reminding::Unresolved<&reminding::reach>::call));
}
