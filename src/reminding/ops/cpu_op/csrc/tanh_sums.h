// Sums of w tanh(.) over the elements of vectors: the halves of the separable score, and single additive scores.
//
// Shapes: D score width, H hidden.
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

// w . tanh(x): one of the two halves of the separable score.
template <class T>
T tanh_dot(const T* w, const T* x, int64_t H) {
  Vec<T> sum_ = {};
  for (int64_t j = 0; j < H; j += Simd<T>::width) sum_ += load<T>(w + j, H - j) * tanh_(load<T>(x + j, H - j));
  return sum<T>(sum_);
}

template <class T>
T largest_size(const T* x, int64_t size) {
  Vec<T> most = {};
  for (int64_t i = 0; i < size; i += Simd<T>::width) {
    const Vec<T> v = load<T>(x + i, size - i);
    most = vmax(vmax(v, -v), most);
  }
  return largest<T>(most);
}

// w . tanh(k + q)
template <class T>
T additive_score(const T* w, const T* k, const T* q, int64_t D) {
  Vec<T> sum_ = {};
  for (int64_t d = 0; d < D; d += Simd<T>::width)
    sum_ += load<T>(w + d, D - d) * tanh_(load<T>(k + d, D - d) + load<T>(q + d, D - d));
  return sum<T>(sum_);
}

// The gradient of tanh_dot; d is that of its result: d_w += d tanh(x), d_x += d w (1 - tanh(x)^2). d_x may be null.
template <class T>
void tanh_dot_backward(T d, const T* w, const T* x, T* d_w, T* d_x, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    const Vec<T> y = tanh_(load<T>(x + j, lanes));
    store<T>(d_w + j, load<T>(d_w + j, lanes) + d * y, lanes);
    if (d_x != nullptr)
      store<T>(d_x + j, load<T>(d_x + j, lanes) + d * load<T>(w + j, lanes) * (T(1) - y * y), lanes);
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
