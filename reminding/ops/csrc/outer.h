// out += a^T b over many rows: the weight gradients. BLAS does this too, 15% slower where it was measured.
//
// Shapes: N rows to sum over (in blocks that stay in cache), a (N, P), b (N, Q), out (P, Q).
#pragma once

#include "gemm.h"

namespace reminding {
namespace SAB_ISA {

constexpr int64_t outer_block = 256;  // rows whose panel of b stays in L1 beside a tile of a
constexpr int64_t outer_rows = 6;     // columns of a, rows of out, per tile

// a: (rows, outer_rows), packed; panel: (rows, panel_width); out: Rows rows of `columns` or panel_width elements.
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

// Columns [begin, end) of a, rows [begin, end) of out. a has rows `stride_a` apart.
template <class T>
void outer(const T* a, int64_t stride_a, const T* b, T* out, int64_t N, int64_t Q, int64_t begin, int64_t end) {
  constexpr int64_t width = panel_width<T>;
  Buffer<T> packed_b(packed_size<T>(outer_block, Q)), packed_a(outer_block * outer_rows);
  for (int64_t first = 0; first < N; first += outer_block) {
    const int64_t rows = N - first < outer_block ? N - first : outer_block;
    pack(packed_b.get(), b + first * Q, rows, Q, Q, 1);
    for (int64_t p = begin; p < end; p += outer_rows) {
      const int64_t strip = end - p < outer_rows ? end - p : outer_rows;
      T* to = packed_a.get();
      for (int64_t n = 0; n < rows; ++n, to += outer_rows) {
        const T* from = a + (first + n) * stride_a + p;
        if (strip == outer_rows) __builtin_memcpy(to, from, sizeof(T) * outer_rows);
        else for (int64_t i = 0; i < strip; ++i) to[i] = from[i];
      }
      for (int64_t q = 0; q < Q; q += width)
        outer_strip(strip, packed_a.get(), packed_b.get() + q * rows, out + p * Q + q, rows, Q - q, Q);
    }
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
