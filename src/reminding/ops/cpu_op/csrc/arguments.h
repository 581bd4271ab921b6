// Reads the operators' arguments. Pointers to the data of tensors come only from here, and only after a tensor's
// type, shape and memory were checked against what the loops will read or write.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "problem.h"

namespace reminding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using Tensors = std::vector<Optional>;
using Shape = std::initializer_list<int64_t>;

// Of any dimension, since slots and pairs are int32.
constexpr int64_t largest_size = std::numeric_limits<int32_t>::max();
constexpr int64_t largest_k_top = int64_t(1) << 20;  // room for as many is made at every step

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream message;
  message << "reminding: ";
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline std::string type_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    default: return torch::headeronly::toString(type);
  }
}

template <class T>
constexpr ScalarType scalar_type = ScalarType::Undefined;
template <>
constexpr ScalarType scalar_type<float> = ScalarType::Float;
template <>
constexpr ScalarType scalar_type<double> = ScalarType::Double;
template <>
constexpr ScalarType scalar_type<int32_t> = ScalarType::Int;
template <>
constexpr ScalarType scalar_type<int64_t> = ScalarType::Long;
template <>
constexpr ScalarType scalar_type<Flag> = ScalarType::Bool;

template <class Sizes>
std::string shape_name(const Sizes& sizes) {
  std::string name = "(";
  for (const int64_t size : sizes) name += (name.size() > 1 ? ", " : "") + std::to_string(size);
  return name + ")";
}

inline std::string description(const Tensor& x) {
  return type_name(x.scalar_type()) + " of shape " + shape_name(x.sizes()) + (x.is_cpu() ? "" : " on another device");
}

// Whether the storage is as large as the shape says. Sharded training empties the storage of parameters but leaves
// their shape.
inline bool has_memory(const Tensor& x) {
  int64_t bytes = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(x.get(), &bytes));
  return (x.storage_offset() + x.numel()) * static_cast<int64_t>(x.element_size()) <= bytes;
}

// The elements of x, or null if it has none.
template <class T>
T* data(const char* name, const Tensor& x, Shape shape) {
  const auto sizes = x.sizes();
  const bool same = sizes.size() == shape.size() && std::equal(shape.begin(), shape.end(), sizes.begin());
  if (!same || x.scalar_type() != scalar_type<T> || !x.is_cpu())
    refuse(name, " must be ", type_name(scalar_type<T>), " of shape ", shape_name(shape), " on the CPU, got ",
           description(x));
  if (!x.is_contiguous()) refuse(name, " must be contiguous, got strides ", shape_name(x.strides()));
  if (x.numel() == 0) return nullptr;
  if (!has_memory(x)) refuse(name, " must have memory for ", x.numel(), " elements, but its storage is smaller");
  return static_cast<T*>(x.data_ptr());
}

inline const Tensor& present(const char* name, const Optional& x) {
  if (!x.has_value()) refuse(name, " must be a tensor, got None");
  return *x;
}

template <class T>
T* data(const char* name, const Optional& x, Shape shape) {
  return data<T>(name, present(name, x), shape);
}

// The elements of an optional argument, or null if it is left out.
template <class T>
T* data_if_given(const char* name, const Optional& x, Shape shape) {
  return x.has_value() ? data<T>(name, *x, shape) : nullptr;
}

// Refuses an argument that would be ignored.
inline void expect_none(const char* name, const Optional& x) {
  if (x.has_value()) refuse(name, " must be None with this rule, got ", description(*x));
}

template <class List>
void expect_length(const char* name, const List& list, size_t length) {
  if (list.size() != length) refuse(name, " must hold ", length, " values, got ", list.size());
}

// A tensor from whose sizes the problem's are read.
inline const Tensor& measured(const char* name, const Tensor& x, int64_t dimensions) {
  const auto sizes = x.sizes();
  const bool fits = std::all_of(sizes.begin(), sizes.end(), [](int64_t size) { return size <= largest_size; });
  if (x.dim() != dimensions || !fits)
    refuse(name, " must have ", dimensions, " dimensions of at most ", largest_size, ", got shape ",
           shape_name(sizes));
  return x;
}

inline int64_t between(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) refuse(name, " must be between ", least, " and ", most, ", got ", value);
  return value;
}

// A fraction, passed as the integer that has the same bits.
inline double fraction(const char* name, int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof(double));
  if (!(value > 0 && value <= 1)) refuse("rule: ", name, " must be above 0 and at most 1, got ", value);
  return value;
}

// rule: cell, score, normalizer, semantics, k_top, k_att, k_trunc, backtrack, capacity, evict, recall_scale,
// forget_scale, search, null_score, summary_gate, stored
inline Problem read_rule(const std::vector<int64_t>& rule) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  expect_length("rule", rule, 16);
  Problem p = {};
  p.cell = static_cast<Cell>(between("rule: cell", rule[0], 0, 2));
  p.score = static_cast<Score>(between("rule: score", rule[1], 0, static_cast<int64_t>(last_score)));
  p.normalizer = static_cast<Normalizer>(between("rule: normalizer", rule[2], 0, 2));
  p.semantics = static_cast<Semantics>(between("rule: semantics", rule[3], 0, 1));
  p.k_top = between("rule: k_top", rule[4], 0, largest_k_top);
  p.k_att = between("rule: k_att", rule[5], 1, most);
  p.k_trunc = between("rule: k_trunc", rule[6], 0, most);
  p.backtrack = between("rule: backtrack", rule[7], 0, 1) != 0;
  p.capacity = between("rule: capacity", rule[8], 0, most);
  p.evict = static_cast<Evict>(between("rule: evict", rule[9], 0, 1));
  p.recall_scale = fraction("recall_scale", rule[10]);
  p.forget_scale = fraction("forget_scale", rule[11]);
  p.search = static_cast<Search>(between("rule: search", rule[12], 0, 2));
  p.null_score = between("rule: null_score", rule[13], 0, p.normalizer == Normalizer::softmax1 ? 1 : 0) != 0;
  p.summary_gate = between("rule: summary_gate", rule[14], 0, 1) != 0;
  p.stored = static_cast<Stored>(between("rule: stored", rule[15], 0, 1));
  return p;
}

// The problem of a pass over time, without D. output (T, B, H), memory (B, M, H).
inline Problem read_problem(const Tensor& output, const Tensor& memory, const std::vector<int64_t>& rule) {
  Problem p = read_rule(rule);
  const auto sizes = measured("output", output, 3).sizes();
  p.T = sizes[0];
  p.B = sizes[1];
  p.H = sizes[2];
  p.M = measured("memory", memory, 3).size(1);
  if (p.H < 1) refuse("output must have a hidden size of at least 1, got shape ", shape_name(sizes));
  return p;
}

// Refuses rows [first_row, first_row + rows) that are not in the batch.
inline void expect_rows(const Problem& p, int64_t first_row, int64_t rows) {
  if (rows > p.B) refuse("keys and pair must have at most the batch's ", p.B, " rows, got ", rows);
  between("first_row", first_row, 0, p.B - rows);
}

}  // namespace reminding
