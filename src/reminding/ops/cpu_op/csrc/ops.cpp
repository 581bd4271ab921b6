// The raw operators behind reminding/ops/cpu_op: they fill tensors the caller made, and are not for users.
//
// Everything with a shape known to torch (large products, masks to indices) stays in Python; here are only the loops
// over time. Rows of the batch are independent, and are the unit of parallel work.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "parallel.h"
#include "problem.h"
#include "reach.h"

namespace reminding {

#define SAB_DECLARE(isa)                        \
  namespace isa {                               \
  extern const Kernels<float> float_kernels;    \
  extern const Kernels<double> double_kernels;  \
  }
SAB_DECLARE(baseline)
#if defined(__x86_64__)
SAB_DECLARE(avx2)
SAB_DECLARE(avx512)
#endif

enum class Isa { baseline, avx2, avx512 };

static Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

static Isa chosen_isa = best_isa();

// For tests: the narrower kernels run on every machine that has the wider ones. Returns what is now in use.
static int64_t limit_isa(int64_t most) {
  chosen_isa = std::min(best_isa(), static_cast<Isa>(most));
  return static_cast<int64_t>(chosen_isa);
}

template <>
const Kernels<float>& kernels<float>() {
#if defined(__x86_64__)
  if (chosen_isa == Isa::avx512) return avx512::float_kernels;
  if (chosen_isa == Isa::avx2) return avx2::float_kernels;
#endif
  return baseline::float_kernels;
}

template <>
const Kernels<double>& kernels<double>() {
#if defined(__x86_64__)
  if (chosen_isa == Isa::avx512) return avx512::double_kernels;
  if (chosen_isa == Isa::avx2) return avx2::double_kernels;
#endif
  return baseline::double_kernels;
}

using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using torch::headeronly::ScalarType;

template <class T>
static T* data(const Tensor& x) {
  STD_TORCH_CHECK(x.is_contiguous(), "reminding: an internal operator got a tensor that is not contiguous");
  return static_cast<T*>(x.data_ptr());
}

template <class T>
static T* data(const Optional& x) {
  return x.has_value() ? data<T>(*x) : nullptr;
}

// rule: cell, score, normalizer, semantics, k_top, k_att, k_trunc, backtrack, capacity, evict, recall_scale, forget_scale
static Problem make_problem(const Tensor& output, const Tensor& memory, int64_t D, const std::vector<int64_t>& rule) {
  STD_TORCH_CHECK(rule.size() == 12, "reminding: a rule has 12 numbers, got ", rule.size());
  Problem p;
  p.T = output.size(0);
  p.B = output.size(1);
  p.H = output.size(2);
  p.D = D;
  p.M = memory.size(1);
  p.cell = static_cast<Cell>(rule[0]);
  p.score = static_cast<Score>(rule[1]);
  p.normalizer = static_cast<Normalizer>(rule[2]);
  p.semantics = static_cast<Semantics>(rule[3]);
  p.k_top = rule[4];
  p.k_att = rule[5];
  p.k_trunc = rule[6];
  p.backtrack = rule[7] != 0;
  p.capacity = rule[8];
  p.evict = static_cast<Evict>(rule[9]);
  // The bits of numbers, since the rule is a list of integers.
  std::memcpy(&p.recall_scale, &rule[10], sizeof(double));
  std::memcpy(&p.forget_scale, &rule[11], sizeof(double));
  return p;
}

template <class Work>
static void for_rows(int64_t first, int64_t rows, int64_t row_bytes, const Work& work) {
  for_chunks(Chunks(rows, row_bytes), first, [&](int64_t, int64_t begin, int64_t end) { work(begin, end); });
}

template <class Call>
static auto by_type(const Tensor& x, const Call& call) {
  if (x.scalar_type() == ScalarType::Double) return call(double());
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float, "reminding: float32 or float64 expected");
  return call(float());
}

// weight (N, K) as the B of `rows . weight^T`, or as it stands, (K, N), for `rows . weight`.
static Tensor pack(Tensor weight, bool transpose) {
  const int64_t k = weight.size(transpose ? 1 : 0), n = weight.size(transpose ? 0 : 1);
  return by_type(weight, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    Tensor packed = torch::stable::new_empty(weight, {kernel.packed_size(k, n)});
    kernel.pack(data<T>(packed), data<T>(weight), k, n, transpose ? 1 : n, transpose ? k : 1);
    return packed;
  });
}

// Tensors that both passes take come in lists, in the order in which `read_shared` reads them.
using Tensors = std::vector<Optional>;

static const Tensor& at(const Tensors& list, size_t i) {
  STD_TORCH_CHECK(i < list.size() && list[i].has_value(), "reminding: an internal operator lacks a tensor");
  return *list[i];
}

// given: x, h0, c0, step0, count0, score or None.
// packed: weights as `pack` has them: input, hidden, memory, query, None where there is none.
// kept: gates, cells, queries, keys; all but keys may be None in the forward pass.
// record: output, summary, memory, slots, edge, weights, inverse, and c at the cuts or None.
template <class T, class Args>
static void read_shared(Args& a, const Tensors& given, const Tensors& packed, const Tensors& kept,
                        const Tensors& record, const std::vector<int64_t>& rule, int64_t first_row) {
  a.problem = make_problem(at(record, 0), at(record, 2), at(kept, 3).size(-1), rule);
  a.first_row = first_row;
  a.x = data<T>(at(given, 0));
  a.inputs = at(given, 0).size(2);
  a.h0 = data<T>(at(given, 1));
  a.c0 = data<T>(at(given, 2));
  a.step0 = data<int64_t>(at(given, 3));
  a.count0 = data<int64_t>(at(given, 4));
  a.score = data<T>(given[5]);
  a.packed = {data<T>(packed[0]), data<T>(packed[1]), data<T>(packed[2]), data<T>(packed[3])};
  a.gates = data<T>(kept[0]);
  a.cells = data<T>(kept[1]);
  a.queries = data<T>(kept[2]);
  a.keys = data<T>(kept[3]);
  a.output = data<T>(record[0]);
  a.summary = data<T>(at(record, 1));
  a.memory = data<T>(record[2]);
  a.slots = data<int32_t>(at(record, 3));
  a.edge = data<int32_t>(at(record, 4));
  a.weights = data<T>(at(record, 5));
  a.inverse = data<T>(at(record, 6));
  a.entering_c = data<T>(record[7]);
  a.max_cuts = record[7].has_value() ? record[7]->size(1) : 0;
}

// bounded: received, alive. milestones: where c goes at every step t with t % stride == offset, or None.
static void forward(Tensors given, Tensor bias, Tensors packed, Tensors kept, Tensors record, Tensor c_T, Tensor peak,
                    Tensors bounded, Optional milestones, int64_t stride, int64_t offset, std::vector<int64_t> rule,
                    int64_t first_row) {
  by_type(bias, [&](auto zero) {
    using T = decltype(zero);
    ForwardArgs<T> a;
    read_shared<T>(a, given, packed, kept, record, rule, first_row);
    a.bias = data<T>(bias);
    a.c_T = data<T>(c_T);
    a.peak = data<T>(peak);
    a.received = data<T>(at(bounded, 0));
    a.alive = data<int64_t>(at(bounded, 1));
    a.milestones = data<T>(milestones);
    a.stride = stride;
    a.offset = offset;
    const Problem& p = a.problem;
    const int64_t row_bytes = p.has_keys() ? p.most_alive() * p.D * static_cast<int64_t>(sizeof(T)) : 0;
    for_rows(first_row, at(kept, 3).size(0), row_bytes,
             [&](int64_t begin, int64_t end) { kernels<T>().forward(a, begin, end); });
  });
}

// past: cut, stored, entry, h, c; or nothing at all.
template <class T>
static Past<T> read_past(const Tensors& past) {
  if (past.empty()) return {};
  return {data<bool>(at(past, 0)), data<int32_t>(at(past, 1)), data<int32_t>(at(past, 2)), data<T>(at(past, 3)),
          data<T>(at(past, 4))};
}

// sums: where the gradients of weight_ih, weight_hh, W1, W2 are added, the last two None where the score has none.
template <class T, class Work>
static void sum_over_rows(const Tensors& sums, const Chunks& chunks, int64_t first_row, const Work& work) {
  typename OrderedSum<T, 4>::Totals totals;
  for (size_t i = 0; i < 4; ++i) totals[i] = {data<T>(sums[i]), sums[i].has_value() ? sums[i]->numel() : 0};
  OrderedSum<T, 4> sum(totals, chunks);
  for_chunks(chunks, first_row, [&](int64_t chunk, int64_t begin, int64_t end) {
    const auto [input, hidden, memory, query] = sum.begin(chunk);
    work(WeightSums<T>{input, hidden, memory, query}, begin, end);
    sum.end(chunk);
  });
}

// arriving: gradients of output, summary, c_T, or None. credit: d_recalled, d_keys.
// leaving: d_x or None, d_h0, d_c0, d_bias, d_score.
static void backward(bool compact, Tensors given, Tensors packed, Tensors kept, Tensors record, Tensors arriving,
                     Tensor pair, Tensor touched, Tensors credit, Tensors sums, Tensors leaving,
                     Tensors past, std::vector<int64_t> rule, int64_t first_row) {
  by_type(at(record, 0), [&](auto zero) {
    using T = decltype(zero);
    BackwardArgs<T> a;
    read_shared<T>(a, given, packed, kept, record, rule, first_row);
    a.rows = pair.size(1);
    a.past = read_past<T>(past);
    a.compact = compact;
    a.d_output = data<T>(arriving[0]);
    a.d_summary = data<T>(arriving[1]);
    a.d_c_T = data<T>(arriving[2]);
    a.pair = data<int32_t>(pair);
    a.touched = data<int32_t>(touched);
    a.d_recalled = data<T>(credit[0]);
    a.d_keys = data<T>(credit[1]);
    a.d_x = data<T>(leaving[0]);
    a.d_h0 = data<T>(leaving[1]);
    a.d_c0 = data<T>(leaving[2]);
    a.d_bias = data<T>(leaving[3]);
    a.d_score = data<T>(leaving[4]);
    const Problem& p = a.problem;
    const Chunks chunks(a.rows, p.M * (3 * p.D + 3 * p.H) * static_cast<int64_t>(sizeof(T)) / 2);
    sum_over_rows<T>(sums, chunks, first_row, [&](const WeightSums<T>& own_sums, int64_t begin, int64_t end) {
      BackwardArgs<T> own = a;
      own.sums = own_sums;
      kernels<T>().backward(own, begin, end);
    });
  });
}

static void replay(Tensor gates, Tensor cells, Tensor h_hat, Tensor h0, Tensor c0, Optional entering_c, Tensor output,
                   Tensor memory, Tensor step0, Tensor pair, Tensors past, std::vector<int64_t> rule,
                   int64_t first_row) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    ReplayArgs<T> a;
    a.problem = make_problem(output, memory, 0, rule);
    a.past = read_past<T>(past);
    a.first_row = first_row;
    a.rows = pair.size(1);
    a.gates = data<T>(gates);
    a.cells = data<T>(cells);
    a.h_hat = data<T>(h_hat);
    a.h0 = data<T>(h0);
    a.c0 = data<T>(c0);
    a.entering_c = data<T>(entering_c);
    a.output = data<T>(output);
    a.max_cuts = entering_c.has_value() ? entering_c->size(1) : 0;
    a.step0 = data<int64_t>(step0);
    a.pair = data<int32_t>(pair);
    for_rows(first_row, a.rows, 0, [&](int64_t begin, int64_t end) { kernels<T>().replay(a, begin, end); });
  });
}

static void reach(Tensor live, Tensor touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, Tensor slots,
                  Tensor edge, Tensor inverse, Optional d_output, Optional d_summary, Optional d_c_T,
                  Optional d_memory, Tensors past, std::vector<int64_t> rule) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    const ReachArgs<T> a{make_problem(output, memory, 0, rule), read_past<T>(past), data<int64_t>(step0),
                         data<int64_t>(count0), data<T>(d_output), data<T>(d_summary), data<T>(d_c_T), data<T>(d_memory),
                         data<int32_t>(slots), data<int32_t>(edge), data<T>(inverse), data<bool>(live),
                         data<bool>(touched)};
    Reach<T>(a).run();
  });
}

// segments: row, taken, steps, base, stride. read: (., 1, ranks). memory: steps, which pass credit on, which have any.
static void reach_past(Tensor until, std::vector<Tensor> segments, Tensor read, std::vector<Tensor> memory,
                       Tensor carried, Tensor reached, std::vector<int64_t> rule) {
  PastReachArgs a;
  a.problem = make_problem(read, memory[0], 0, rule);
  a.segments = until.numel();
  a.ranks = read.size(2);
  a.row = data<int64_t>(segments[0]);
  a.taken = data<int64_t>(segments[1]);
  a.steps = data<int64_t>(segments[2]);
  a.base = data<int64_t>(segments[3]);
  a.stride = data<int64_t>(segments[4]);
  a.read = data<int64_t>(read);
  a.memory_step = data<int64_t>(memory[0]);
  a.passes = data<bool>(memory[1]);
  a.credited = data<bool>(memory[2]);
  a.carried = data<bool>(carried);
  a.reached = data<int64_t>(reached);
  a.until = data<int32_t>(until);
  PastReach(a).run();
}

// New memory comes in pages of 4 KB, each a trap into the kernel when first written: as dear as a tenth of the
// arithmetic. Asks for large pages where a tensor spans many.
static void ask_for_huge_pages(std::vector<Tensor> tensors) {
#if defined(__linux__)
  constexpr size_t worthwhile = size_t(4) << 20;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const Tensor& x : tensors) {
    const size_t bytes = static_cast<size_t>(x.numel()) * x.element_size();
    if (bytes < worthwhile) continue;
    const uintptr_t data = reinterpret_cast<uintptr_t>(x.data_ptr()), first = (data + page - 1) / page * page;
    // Only a wish: where the kernel declines, small pages serve.
    static_cast<void>(madvise(reinterpret_cast<void*>(first), (data + bytes - first) / page * page, MADV_HUGEPAGE));
  }
#endif
}

static void exponentiate(Tensor x) {
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    kernels<T>().exponentiate(data<T>(x), x.numel());
  });
}

}  // namespace reminding

STABLE_TORCH_LIBRARY(reminding_cpu, m) {
  m.def("limit_isa(int most) -> int");
  m.def("pack(Tensor weight, bool transpose) -> Tensor");
  m.def("ask_for_huge_pages(Tensor[] tensors) -> ()");
  m.def("exponentiate(Tensor(a!) x) -> ()");
  m.def(
      "forward(Tensor?[] given, Tensor bias, Tensor?[] packed, Tensor(a!)?[] kept, Tensor(b!)?[] record, "
      "Tensor(c!) c_T, Tensor(d!) peak, Tensor(e!)?[] bounded, Tensor(f!)? milestones, int stride, int offset, "
      "int[] rule, int first_row) -> ()");
  m.def(
      "backward(bool compact, Tensor?[] given, Tensor?[] packed, Tensor?[] kept, Tensor?[] record, "
      "Tensor?[] arriving, Tensor pair, Tensor touched, Tensor(a!)?[] credit, Tensor(b!)?[] sums, "
      "Tensor(c!)?[] leaving, Tensor?[] past, int[] rule, int first_row) -> ()");
  m.def(
      "replay(Tensor(a!) gates, Tensor(b!) cells, Tensor(c!) h_hat, Tensor h0, Tensor c0, Tensor? entering_c, "
      "Tensor output, Tensor memory, Tensor step0, Tensor pair, Tensor?[] past, int[] rule, int first_row) -> ()");
  m.def(
      "reach(Tensor(a!) live, Tensor(b!) touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, "
      "Tensor slots, Tensor edge, Tensor inverse, Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, "
      "Tensor? d_memory, Tensor?[] past, int[] rule) -> ()");
  m.def(
      "reach_past(Tensor(a!) until, Tensor[] segments, Tensor read, Tensor[] memory, Tensor carried, Tensor reached, "
      "int[] rule) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, CompositeExplicitAutograd, m) {
  m.impl("limit_isa", TORCH_BOX(&reminding::limit_isa));
}

STABLE_TORCH_LIBRARY_IMPL(reminding_cpu, CPU, m) {
  m.impl("pack", TORCH_BOX(&reminding::pack));
  m.impl("ask_for_huge_pages", TORCH_BOX(&reminding::ask_for_huge_pages));
  m.impl("exponentiate", TORCH_BOX(&reminding::exponentiate));
  m.impl("forward", TORCH_BOX(&reminding::forward));
  m.impl("backward", TORCH_BOX(&reminding::backward));
  m.impl("replay", TORCH_BOX(&reminding::replay));
  m.impl("reach", TORCH_BOX(&reminding::reach));
  m.impl("reach_past", TORCH_BOX(&reminding::reach_past));
}
