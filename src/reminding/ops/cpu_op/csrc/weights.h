// What whole passes have in common: tensors that they make, and weights as the loops read them.
//
// Python would do what a whole pass does around its loops in a chain of small calls, which take longer than the steps of a
// short pass.
//
// Shapes: see problem.h.
#pragma once

#include <vector>

#include "loops.h"

namespace reminding {

inline Tensor make(const Tensor& like, std::initializer_list<int64_t> shape, ScalarType type) {
  return torch::stable::new_empty(like, std::vector<int64_t>(shape), type);
}
inline Tensor make(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_empty(like, std::vector<int64_t>(shape));
}
inline Tensor zeros(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_zeros(like, std::vector<int64_t>(shape));
}
template <class T>
T* elements(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

// c += a . packed, or c = a . packed, for lists of rows that may lie anywhere; shared out to threads.
template <class T>
void multiply_rows(const std::vector<const T*>& a, const T* packed, const std::vector<T*>& c, int64_t k, int64_t n,
                   bool accumulate) {
  constexpr int64_t least = 256;  // rows for a thread
  const int64_t rows = static_cast<int64_t>(a.size());
  const auto work = [&](int64_t begin, int64_t end) {
    kernels<T>().multiply(end - begin, a.data() + begin, packed, c.data() + begin, k, n, accumulate);
  };
  if (rows <= least || torch::stable::get_num_threads() == 1) work(0, rows);
  else torch::stable::parallel_for(0, rows, least, work);
}

// weights: weight_ih, weight_hh, W1, W2; the last two None if the score has no keys. Sets p.D.
template <class T>
void expect_weights(const Tensors& weights, Problem& p, int64_t inputs) {
  expect_length("weights", weights, 4);
  data<T>("weight_ih", weights[0], {p.recurrent(), inputs});
  data<T>("weight_hh", weights[1], {p.recurrent(), p.H});
  p.D = 0;
  if (!p.keyed()) {
    expect_none("W1", weights[2]);
    expect_none("W2", weights[3]);
    return;
  }
  p.D = measured("W1", present("W1", weights[2]), 2).size(0);
  if (p.D < 1) refuse("W1 must have at least 1 row, got ", description(*weights[2]));
  data<T>("W1", weights[2], {p.D, p.H});
  data<T>("W2", weights[3], {p.D, p.H});
}

// Of a GRU's hidden weight two products, for r and z and for n, one behind the other.
template <class T>
Tensor pack_gru(const Tensor& weight, const Problem& p, bool transpose) {
  const auto size = [&](int64_t rows) {
    return transpose ? kernels<T>().packed_size(p.H, rows) : kernels<T>().packed_size(rows, p.H);
  };
  Tensor packed = make(weight, {size(2 * p.H) + size(p.H)});
  const T* from = elements<T>(weight);
  pack_rows(elements<T>(packed), from, 2 * p.H, p.H, transpose);
  pack_rows(elements<T>(packed) + size(2 * p.H), from + 2 * p.H * p.H, p.H, p.H, transpose);
  return packed;
}

// The weights as `read_packed` reads them. with_input: see there.
template <class T>
Tensors pack_weights(const Tensors& weights, const Problem& p, bool transpose, bool with_input) {
  Tensors packed(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!weights[i].has_value() || (i == 0 && !with_input)) continue;
    const bool halves = i == 1 && p.cell == Cell::gru;
    packed[i] = halves ? pack_gru<T>(*weights[i], p, transpose) : pack_one(*weights[i], transpose);
  }
  return packed;
}

}  // namespace reminding
