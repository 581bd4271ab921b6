// C = A . B or C += A . B for the few rows of one time step. B is packed once per call.
//
// A and C are lists of row pointers, so that rows may lie anywhere and need not be gathered first.
// Packed B: panels of `panel_width` columns, each (K, panel_width), the last one padded with zeros.
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
constexpr int64_t panel_width = 2 * Simd<T>::width;

template <class T>
int64_t packed_size(int64_t k, int64_t n) {
  return (n + panel_width<T> - 1) / panel_width<T> * panel_width<T> * k;
}

// to[i][j] = from[j][i] for a block of 16 bytes either way: in registers, since single elements take far longer to move.
#if defined(__clang__) || __GNUC__ >= 12
#define SAB_TRANSPOSES 1
SAB_INLINE void transpose_block(const float* from, int64_t stride, float* to, int64_t to_stride) {
  typedef float Quad __attribute__((vector_size(16)));
  Quad row[4];
  for (int j = 0; j < 4; ++j) __builtin_memcpy(&row[j], from + j * stride, sizeof(Quad));
  const Quad low = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const Quad high = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const Quad low2 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Quad high2 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const Quad column[4] = {
      __builtin_shufflevector(low, low2, 0, 1, 4, 5), __builtin_shufflevector(low, low2, 2, 3, 6, 7),
      __builtin_shufflevector(high, high2, 0, 1, 4, 5), __builtin_shufflevector(high, high2, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) __builtin_memcpy(to + i * to_stride, &column[i], sizeof(Quad));
}

SAB_INLINE void transpose_block(const double* from, int64_t stride, double* to, int64_t to_stride) {
  typedef double Pair __attribute__((vector_size(16)));
  Pair row[2];
  for (int j = 0; j < 2; ++j) __builtin_memcpy(&row[j], from + j * stride, sizeof(Pair));
  const Pair column[2] = {__builtin_shufflevector(row[0], row[1], 0, 2), __builtin_shufflevector(row[0], row[1], 1, 3)};
  for (int i = 0; i < 2; ++i) __builtin_memcpy(to + i * to_stride, &column[i], sizeof(Pair));
}
#else
#define SAB_TRANSPOSES 0
template <class T>
SAB_INLINE void transpose_block(const T*, int64_t, T*, int64_t) {}
#endif

// packed[i][j] = from[i + j * stride] for i < k and j < columns, `width` to a row of packed.
template <class T>
void transpose_panel(T* packed, const T* from, int64_t k, int64_t columns, int64_t stride, int64_t width) {
  constexpr int64_t block = SAB_TRANSPOSES ? 16 / int64_t(sizeof(T)) : 1;
  const int64_t whole_k = SAB_TRANSPOSES ? k / block * block : 0, whole = columns / block * block;
  for (int64_t i = 0; i < whole_k; i += block)
    for (int64_t j = 0; j < whole; j += block)
      transpose_block(from + i + j * stride, stride, packed + i * width + j, width);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = j < whole ? whole_k : 0; i < k; ++i) packed[i * width + j] = from[i + j * stride];
}

// B[k][n] = source[k * stride_k + n * stride_n]
template <class T>
void pack(T* packed, const T* source, int64_t k, int64_t n, int64_t stride_k, int64_t stride_n) {
  constexpr int64_t width = panel_width<T>;
  for (int64_t first = 0; first < n; first += width, packed += k * width) {
    const int64_t columns = n - first < width ? n - first : width;
    if (columns < width) __builtin_memset(packed, 0, sizeof(T) * static_cast<size_t>(k * width));
    const T* from = source + first * stride_n;
    if (stride_n == 1 && columns == width) {
      for (int64_t i = 0; i < k; ++i) __builtin_memcpy(packed + i * width, from + i * stride_k, sizeof(T) * width);
    } else if (stride_k == 1) {
      transpose_panel(packed, from, k, columns, stride_n, width);
    } else {
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t i = 0; i < k; ++i) packed[i * width + j] = from[i * stride_k + j * stride_n];
    }
  }
}

// One tile: Rows rows by Panels panels. Twelve accumulators hide the latency of a multiply-add.
template <class T, int Rows, int Panels>
static void tile(const T* const* a, const T* panel, T* const* c, int64_t k, int64_t columns, int64_t panel_size,
                 bool accumulate) {
  constexpr int W = Simd<T>::width;
  Vec<T> sum_[Rows][2 * Panels] = {};
  const T* row[Rows];
  for (int r = 0; r < Rows; ++r) row[r] = a[r];
  for (int64_t i = 0; i < k; ++i) {
    Vec<T> b[2 * Panels];
#pragma GCC unroll 8
    for (int p = 0; p < 2 * Panels; ++p) b[p] = load(panel + (p / 2) * panel_size + i * 2 * W + (p % 2) * W);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vec<T> x = fill<T>(row[r][i]);
#pragma GCC unroll 8
      for (int p = 0; p < 2 * Panels; ++p) sum_[r][p] += x * b[p];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < 2 * Panels; ++p) {
      const int64_t lanes = columns - p * W;
      if (lanes <= 0) break;
      T* out = c[r] + p * W;
      store<T>(out, accumulate ? load<T>(out, lanes) + sum_[r][p] : sum_[r][p], lanes);
    }
}

// The product for one group of panels. Rows are split into tiles of about equal height: 8 rows are 4 + 4, not 6 + 2.
template <class T, int Panels>
SAB_INLINE void panel_rows(int64_t rows, const T* const* a, const T* panel, T* const* c, int64_t k, int64_t columns,
                           int64_t panel_size, bool accumulate) {
  constexpr int64_t most = 6;
  int64_t tiles = (rows + most - 1) / most;
  for (int64_t first = 0; first < rows; --tiles) {
    const int64_t size = (rows - first + tiles - 1) / tiles;
    const T* const* at = a + first;
    T* const* to = c + first;
    switch (size) {
      case 6: tile<T, 6, Panels>(at, panel, to, k, columns, panel_size, accumulate); break;
      case 5: tile<T, 5, Panels>(at, panel, to, k, columns, panel_size, accumulate); break;
      case 4: tile<T, 4, Panels>(at, panel, to, k, columns, panel_size, accumulate); break;
      case 3: tile<T, 3, Panels>(at, panel, to, k, columns, panel_size, accumulate); break;
      case 2: tile<T, 2, Panels>(at, panel, to, k, columns, panel_size, accumulate); break;
      default: tile<T, 1, Panels>(at, panel, to, k, columns, panel_size, accumulate);
    }
    first += size;
  }
}

constexpr int64_t max_rows = 64;  // of one gemm call; callers size their lists by it

template <class T>
void gemm(int64_t rows, const T* const* a, const T* packed, T* const* c, int64_t k, int64_t n, bool accumulate) {
  if (rows == 0) return;
  const int64_t panel_size = panel_width<T> * k;
  // With one or two rows, only several panels at once keep the accumulators busy.
  const int64_t panels = rows <= 2 ? 3 : 1;
  T* to[max_rows];
  for (int64_t first = 0; first < n;) {
    for (int64_t r = 0; r < rows; ++r) to[r] = c[r] + first;
    const T* panel = packed + first * k;
    if (panels == 3 && first + 2 * panel_width<T> < n) {
      if (rows == 1) tile<T, 1, 3>(a, panel, to, k, n - first, panel_size, accumulate);
      else tile<T, 2, 3>(a, panel, to, k, n - first, panel_size, accumulate);
      first += 3 * panel_width<T>;
    } else {
      panel_rows<T, 1>(rows, a, panel, to, k, n - first, panel_size, accumulate);
      first += panel_width<T>;
    }
  }
}

// The same for any number of rows.
template <class T>
void multiply(int64_t rows, const T* const* a, const T* packed, T* const* c, int64_t k, int64_t n, bool accumulate) {
  for (int64_t first = 0; first < rows; first += max_rows) {
    const int64_t size = rows - first < max_rows ? rows - first : max_rows;
    gemm<T>(size, a + first, packed, c + first, k, n, accumulate);
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
