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

// rule: cell, score, normalizer, semantics, k_top, k_att, k_trunc, backtrack
static Problem make_problem(const Tensor& output, const Tensor& memory, int64_t D, const std::vector<int64_t>& rule) {
  STD_TORCH_CHECK(rule.size() == 8, "reminding: a rule has 8 numbers, got ", rule.size());
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

template <class T>
static Packed<T> packed_weights(const Optional& input, const Tensor& hidden, const Optional& memory,
                                const Optional& query) {
  return {data<T>(input), data<T>(hidden), data<T>(memory), data<T>(query)};
}

static void forward(Tensor x, Tensor bias, Optional gates, Optional cells, Optional entering_c, Optional queries, Tensor h0, Tensor c0,
                    Tensor step0, Tensor count0, Optional packed_input, Tensor packed_hidden,
                    Optional packed_memory, Optional packed_query, Optional score, Tensor output, Tensor summary, Tensor c_T, Tensor memory, Tensor keys, Tensor peak,
                    Tensor slots, Tensor edge, Tensor weights, Tensor inverse, std::vector<int64_t> rule,
                    int64_t first_row) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    ForwardArgs<T> a;
    a.problem = make_problem(output, memory, keys.size(-1), rule);
    a.packed = packed_weights<T>(packed_input, packed_hidden, packed_memory, packed_query);
    a.first_row = first_row;
    a.x = data<T>(x);
    a.inputs = x.size(2);
    a.bias = data<T>(bias);
    a.gates = data<T>(gates);
    a.cells = data<T>(cells);
    a.entering_c = data<T>(entering_c);
    a.max_cuts = entering_c.has_value() ? entering_c->size(1) : 0;
    a.queries = data<T>(queries);
    a.h0 = data<T>(h0);
    a.c0 = data<T>(c0);
    a.step0 = data<int64_t>(step0);
    a.count0 = data<int64_t>(count0);
    a.score = data<T>(score);
    a.output = data<T>(output);
    a.summary = data<T>(summary);
    a.c_T = data<T>(c_T);
    a.memory = data<T>(memory);
    a.keys = data<T>(keys);
    a.peak = data<T>(peak);
    a.slots = data<int32_t>(slots);
    a.edge = data<int32_t>(edge);
    a.weights = data<T>(weights);
    a.inverse = data<T>(inverse);
    const Problem& p = a.problem;
    const int64_t row_bytes = p.has_keys() ? p.M * p.D * static_cast<int64_t>(sizeof(T)) : 0;
    for_rows(first_row, keys.size(0), row_bytes, [&](int64_t begin, int64_t end) { kernels<T>().forward(a, begin, end); });
  });
}

static int64_t size_of(const Optional& x) { return x.has_value() ? x->numel() : 0; }

static void backward(bool compact, Tensor gates, Tensor cells, Tensor queries, Tensor keys, Optional entering_c,
                     Tensor h0, Tensor c0, Tensor step0, Tensor count0, Optional packed_input, Tensor packed_hidden,
                     Optional packed_memory, Optional packed_query, Optional score, Tensor output, Tensor summary,
                     Tensor memory, Tensor slots, Tensor edge, Tensor weights, Tensor inverse, Optional d_output,
                     Optional d_summary, Optional d_c_T, Tensor pair, Tensor touched, Tensor x, Optional d_x,
                     Tensor d_weight_ih, Tensor d_weight_hh, Optional d_w1, Optional d_w2, Tensor d_recalled,
                     Tensor d_keys, Tensor d_h0, Tensor d_c0, Tensor d_bias, Tensor d_score,
                     std::vector<int64_t> rule, int64_t first_row) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    BackwardArgs<T> a;
    a.problem = make_problem(output, memory, keys.size(-1), rule);
    a.packed = packed_weights<T>(packed_input, packed_hidden, packed_memory, packed_query);
    a.first_row = first_row;
    a.rows = pair.size(1);
    a.compact = compact;
    a.gates = data<T>(gates);
    a.cells = data<T>(cells);
    a.queries = data<T>(queries);
    a.keys = data<T>(keys);
    a.entering_c = data<T>(entering_c);
    a.max_cuts = entering_c.has_value() ? entering_c->size(1) : 0;
    a.h0 = data<T>(h0);
    a.c0 = data<T>(c0);
    a.step0 = data<int64_t>(step0);
    a.count0 = data<int64_t>(count0);
    a.score = data<T>(score);
    a.output = data<T>(output);
    a.summary = data<T>(summary);
    a.memory = data<T>(memory);
    a.slots = data<int32_t>(slots);
    a.edge = data<int32_t>(edge);
    a.weights = data<T>(weights);
    a.inverse = data<T>(inverse);
    a.d_output = data<T>(d_output);
    a.d_summary = data<T>(d_summary);
    a.d_c_T = data<T>(d_c_T);
    a.pair = data<int32_t>(pair);
    a.touched = data<int32_t>(touched);
    a.x = data<T>(x);
    a.inputs = x.size(2);
    a.d_x = data<T>(d_x);
    a.d_recalled = data<T>(d_recalled);
    a.d_keys = data<T>(d_keys);
    a.d_h0 = data<T>(d_h0);
    a.d_c0 = data<T>(d_c0);
    a.d_bias = data<T>(d_bias);
    a.d_score = data<T>(d_score);
    const Problem& p = a.problem;
    const Chunks chunks(a.rows, p.M * (3 * p.D + 3 * p.H) * static_cast<int64_t>(sizeof(T)) / 2);
    OrderedSum<T, 4> sums({{{data<T>(d_weight_ih), d_weight_ih.numel()},
                            {data<T>(d_weight_hh), d_weight_hh.numel()},
                            {data<T>(d_w1), size_of(d_w1)},
                            {data<T>(d_w2), size_of(d_w2)}}},
                          chunks);
    for_chunks(chunks, first_row, [&](int64_t chunk, int64_t begin, int64_t end) {
      BackwardArgs<T> own = a;
      const auto [input, hidden, memory, query] = sums.begin(chunk);
      own.sums = {input, hidden, memory, query};
      kernels<T>().backward(own, begin, end);
      sums.end(chunk);
    });
  });
}

static void replay(Tensor gates, Tensor cells, Tensor h_hat, Tensor h0, Tensor c0, Optional entering_c, Tensor output,
                   Tensor memory, Tensor step0, Tensor pair, std::vector<int64_t> rule, int64_t first_row) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    ReplayArgs<T> a;
    a.problem = make_problem(output, memory, 0, rule);
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
                  Optional d_memory, std::vector<int64_t> rule) {
  by_type(output, [&](auto zero) {
    using T = decltype(zero);
    const ReachArgs<T> a{make_problem(output, memory, 0, rule), data<int64_t>(step0), data<int64_t>(count0),
                         data<T>(d_output), data<T>(d_summary), data<T>(d_c_T), data<T>(d_memory),
                         data<int32_t>(slots), data<int32_t>(edge), data<T>(inverse), data<bool>(live),
                         data<bool>(touched)};
    Reach<T>(a).run();
  });
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
      "forward(Tensor x, Tensor bias, Tensor(a!)? gates, Tensor(b!)? cells, Tensor(c!)? entering_c, Tensor(d!)? queries, Tensor h0, "
      "Tensor c0, Tensor step0, Tensor count0, Tensor? packed_input, Tensor packed_hidden, Tensor? packed_memory, "
      "Tensor? packed_query, Tensor? score, Tensor(e!) output, Tensor(f!) summary, Tensor(g!) c_T, Tensor(h!) memory, Tensor(i!) keys, "
      "Tensor(j!) peak, Tensor(k!) slots, Tensor(l!) edge, Tensor(m!) weights, Tensor(n!) inverse, int[] rule, "
      "int first_row) -> ()");
  m.def(
      "backward(bool compact, Tensor gates, Tensor cells, Tensor queries, Tensor keys, Tensor? entering_c, "
      "Tensor h0, Tensor c0, Tensor step0, Tensor count0, Tensor? packed_input, Tensor packed_hidden, "
      "Tensor? packed_memory, Tensor? packed_query, Tensor? score, Tensor output, Tensor summary, Tensor memory, "
      "Tensor slots, Tensor edge, Tensor weights, Tensor inverse, Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, "
      "Tensor pair, Tensor touched, Tensor x, Tensor(a!)? d_x, Tensor(b!) d_weight_ih, Tensor(c!) d_weight_hh, "
      "Tensor(d!)? d_w1, Tensor(e!)? d_w2, Tensor(f!) d_recalled, Tensor(g!) d_keys, Tensor(h!) d_h0, "
      "Tensor(i!) d_c0, Tensor(j!) d_bias, Tensor(k!) d_score, int[] rule, int first_row) -> ()");
  m.def(
      "replay(Tensor(a!) gates, Tensor(b!) cells, Tensor(c!) h_hat, Tensor h0, Tensor c0, Tensor? entering_c, "
      "Tensor output, Tensor memory, Tensor step0, Tensor pair, int[] rule, int first_row) -> ()");
  m.def(
      "reach(Tensor(a!) live, Tensor(b!) touched, Tensor output, Tensor memory, Tensor step0, Tensor count0, "
      "Tensor slots, Tensor edge, Tensor inverse, Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, "
      "Tensor? d_memory, int[] rule) -> ()");
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
}
