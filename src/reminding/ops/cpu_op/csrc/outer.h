// out += a^T b over the rows of a block: the weight gradients. The backward loop calls this while the block is still
// in cache. One BLAS call over all rows would be slower, and would need all of them in memory.
//
// Shapes: a (rows, P), b (rows, Q), out (P, Q).
#pragma once

#include "gemm.h"

namespace reminding {
namespace SAB_ISA {

constexpr int64_t outer_block = 256;  // rows of a block: its panel of b stays in L1 beside a tile of a
constexpr int64_t outer_rows = 6;     // columns of a per tile, which are rows of out

// The distance between rows of a. Not a power of two, or the elements of a column would all map to the same few cache
// sets.
template <class T>
constexpr int64_t outer_stride(int64_t P) {
  return P + 64 / static_cast<int64_t>(sizeof(T));
}

// The second factor of a product, and where the product is added.
template <class T>
struct OuterFactor {
  const T* const* b;  // (rows,): pointers to rows of Q elements, which may lie anywhere
  int64_t Q;
  T* out;  // (P, Q)
};

// a: (rows, outer_rows), packed. panel: (rows, panel_width). out: Rows rows, `columns` elements each but at most
// panel_width.
template <class T, int Rows>
static void outer_tile(const T* a, const T* panel, T* out, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int W = Simd<T>::width;
  Vec<T> sums[Rows][2] = {};
  for (int64_t n = 0; n < rows; ++n) {
    const Vec<T> b0 = load(panel + n * 2 * W), b1 = load(panel + n * 2 * W + W);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vec<T> x = fill<T>(a[n * outer_rows + r]);
      sums[r][0] += x * b0;
      sums[r][1] += x * b1;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    T* to = out + r * stride;
    store<T>(to, load<T>(to, columns) + sums[r][0], columns);
    if (columns > W) store<T>(to + W, load<T>(to + W, columns - W) + sums[r][1], columns - W);
  }
}

template <class T>
SAB_INLINE void outer_strip(int64_t width, const T* a, const T* panel, T* out, int64_t rows, int64_t columns,
                            int64_t stride) {
  switch (width) {
    case 6: return outer_tile<T, 6>(a, panel, out, rows, columns, stride);
    case 5: return outer_tile<T, 5>(a, panel, out, rows, columns, stride);
    case 4: return outer_tile<T, 4>(a, panel, out, rows, columns, stride);
    case 3: return outer_tile<T, 3>(a, panel, out, rows, columns, stride);
    case 2: return outer_tile<T, 2>(a, panel, out, rows, columns, stride);
    default: return outer_tile<T, 1>(a, panel, out, rows, columns, stride);
  }
}

template <class T>
class Outer {
 public:
  // columns: the largest total of Q in one call of `add`, each Q rounded up to whole panels.
  explicit Outer(int64_t columns) : packed_a_(outer_block * outer_rows), packed_b_(outer_block * columns) {}

  // out += a^T b for each factor. a (rows, P), its rows `stride` elements apart; rows <= outer_block.
  void add(const T* a, int64_t stride, int64_t P, const OuterFactor<T>* factor, int64_t factors, int64_t rows) {
    T* to = packed_b_.get();
    for (int64_t f = 0; f < factors; ++f) to = pack_rows(to, factor[f].b, rows, factor[f].Q);
    for (int64_t p = 0; p < P; p += outer_rows) {
      const int64_t strip = P - p < outer_rows ? P - p : outer_rows;
      pack_strip(a + p, stride, strip, rows);
      const T* panel = packed_b_.get();
      for (int64_t f = 0; f < factors; ++f) {
        const int64_t Q = factor[f].Q;
        for (int64_t q = 0; q < Q; q += panel_width<T>, panel += rows * panel_width<T>)
          outer_strip(strip, packed_a_.get(), panel, factor[f].out + p * Q + q, rows, Q - q, Q);
      }
    }
  }

 private:
  // Packs b into panels, laid out as in gemm.h; returns the end of the last panel.
  static T* pack_rows(T* to, const T* const* b, int64_t rows, int64_t Q) {
    constexpr int64_t width = panel_width<T>;
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t q = 0; q < Q; q += width) {
        T* at = to + q * rows + n * width;
        store<T>(at, load<T>(b[n] + q, Q - q));
        store<T>(at + width / 2, load_or_zero(b[n] + q + width / 2, Q - q - width / 2));
      }
    }
    return to + packed_size<T>(rows, Q);
  }

  static Vec<T> load_or_zero(const T* p, int64_t lanes) { return lanes > 0 ? load<T>(p, lanes) : Vec<T>{}; }

  void pack_strip(const T* a, int64_t stride, int64_t strip, int64_t rows) {
    T* to = packed_a_.get();
    for (int64_t n = 0; n < rows; ++n, to += outer_rows, a += stride) {
      if (strip == outer_rows) __builtin_memcpy(to, a, sizeof(T) * outer_rows);
      else for (int64_t i = 0; i < strip; ++i) to[i] = a[i];
    }
  }

  Buffer<T> packed_a_, packed_b_;
};

}  // namespace SAB_ISA
}  // namespace reminding
