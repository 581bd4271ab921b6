// The cells, one row and one step at a time: their activations and the gradients of these.
//
// The activated gates overwrite the pre-activations, in this order: LSTM (i, f, g, o); GRU (r, z, n, W_hn h + b_hn);
// RNN (h_hat).
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

// What recurrent dropout lets through of h on its way into the weights, or of its gradient on the way back; `to` may be x.
template <class T>
void times(T* to, const T* x, const T* factor, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width)
    store<T>(to + j, load<T>(x + j, H - j) * load<T>(factor + j, H - j), H - j);
}

template <class T>
struct CellForward {
  T* gates;          // (G,) in place
  const T* h_prev;   // (H,)
  const T* c_prev;   // (H,) LSTM; may be `c`
  T* c;              // (H,) LSTM
  T* h_hat;          // (H,)
};

// `forget_scale` multiplies the forget gate; the scaled gate is the one saved.
template <class T>
void lstm_forward(const CellForward<T>& at, int64_t H, T forget_scale) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    T* gate = at.gates + j;
    const Vec<T> i = sigmoid<T>(load<T>(gate, lanes));
    const Vec<T> f = forget_scale * sigmoid<T>(load<T>(gate + H, lanes));
    const Vec<T> g = tanh_(load<T>(gate + 2 * H, lanes));
    const Vec<T> o = sigmoid<T>(load<T>(gate + 3 * H, lanes));
    const Vec<T> c = f * load<T>(at.c_prev + j, lanes) + i * g;
    store<T>(gate, i, lanes);
    store<T>(gate + H, f, lanes);
    store<T>(gate + 2 * H, g, lanes);
    store<T>(gate + 3 * H, o, lanes);
    store<T>(at.c + j, c, lanes);
    store<T>(at.h_hat + j, o * tanh_(c), lanes);
  }
}

template <class T>
void gru_forward(const CellForward<T>& at, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    T* gate = at.gates + j;
    const Vec<T> r = sigmoid<T>(load<T>(gate, lanes));
    const Vec<T> z = sigmoid<T>(load<T>(gate + H, lanes));
    const Vec<T> n = tanh_(load<T>(gate + 2 * H, lanes) + r * load<T>(gate + 3 * H, lanes));
    store<T>(gate, r, lanes);
    store<T>(gate + H, z, lanes);
    store<T>(gate + 2 * H, n, lanes);
    store<T>(at.h_hat + j, n + z * (load<T>(at.h_prev + j, lanes) - n), lanes);
  }
}

template <class T>
void rnn_forward(const CellForward<T>& at, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const Vec<T> h = tanh_(load<T>(at.gates + j, H - j));
    store<T>(at.gates + j, h, H - j);
    store<T>(at.h_hat + j, h, H - j);
  }
}

template <class T>
SAB_INLINE void cell_forward(const Problem& p, const CellForward<T>& at) {
  if (p.cell == Cell::lstm) lstm_forward(at, p.H, T(p.forget_scale));
  else if (p.cell == Cell::gru) gru_forward(at, p.H);
  else rnn_forward(at, p.H);
}

template <class T>
struct CellBackward {
  const T* gates;     // (G,) activated
  T* d_gates;         // (G,) may be `gates`
  const T* h_prev;    // (H,)
  const T *c_prev, *c;  // (H,) LSTM
  const T* d_h_hat;   // (H,)
  T* d_c;             // (H,) LSTM; in: gradient of c, out: of c_prev
  T* d_h_prev;        // (H,) GRU; out: the part of the gradient that bypasses the gates
};

template <class T>
void lstm_backward(const CellBackward<T>& at, int64_t H, T forget_scale) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    const T* gate = at.gates + j;
    const Vec<T> i = load<T>(gate, lanes), f = load<T>(gate + H, lanes);
    const Vec<T> g = load<T>(gate + 2 * H, lanes), o = load<T>(gate + 3 * H, lanes);
    const Vec<T> squashed = tanh_(load<T>(at.c + j, lanes));
    const Vec<T> d_h = load<T>(at.d_h_hat + j, lanes);
    const Vec<T> d_c = load<T>(at.d_c + j, lanes) + d_h * o * (T(1) - squashed * squashed);
    T* out = at.d_gates + j;
    store<T>(out, d_c * g * (i - i * i), lanes);
    store<T>(out + H, d_c * load<T>(at.c_prev + j, lanes) * (f - f * f / forget_scale), lanes);
    store<T>(out + 2 * H, d_c * i * (T(1) - g * g), lanes);
    store<T>(out + 3 * H, d_h * squashed * (o - o * o), lanes);
    store<T>(at.d_c + j, d_c * f, lanes);
  }
}

// d_gates: the gradients of the pre-activations of r, z and n, then of W_hn h + b_hn.
template <class T>
void gru_backward(const CellBackward<T>& at, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const int64_t lanes = H - j;
    const T* gate = at.gates + j;
    const Vec<T> r = load<T>(gate, lanes), z = load<T>(gate + H, lanes);
    const Vec<T> n = load<T>(gate + 2 * H, lanes), from_h = load<T>(gate + 3 * H, lanes);
    const Vec<T> d_h = load<T>(at.d_h_hat + j, lanes);
    const Vec<T> d_n = d_h * (T(1) - z) * (T(1) - n * n);
    T* out = at.d_gates + j;
    store<T>(out, d_n * from_h * (r - r * r), lanes);
    store<T>(out + H, d_h * (load<T>(at.h_prev + j, lanes) - n) * (z - z * z), lanes);
    store<T>(out + 2 * H, d_n, lanes);
    store<T>(out + 3 * H, d_n * r, lanes);
    store<T>(at.d_h_prev + j, d_h * z, lanes);
  }
}

template <class T>
void rnn_backward(const CellBackward<T>& at, int64_t H) {
  for (int64_t j = 0; j < H; j += Simd<T>::width) {
    const Vec<T> h = load<T>(at.gates + j, H - j);
    store<T>(at.d_gates + j, load<T>(at.d_h_hat + j, H - j) * (T(1) - h * h), H - j);
  }
}

template <class T>
SAB_INLINE void cell_backward(const Problem& p, const CellBackward<T>& at) {
  if (p.cell == Cell::lstm) lstm_backward(at, p.H, T(p.forget_scale));
  else if (p.cell == Cell::gru) gru_backward(at, p.H);
  else rnn_backward(at, p.H);
}

}  // namespace SAB_ISA
}  // namespace reminding
