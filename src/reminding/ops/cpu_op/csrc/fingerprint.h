// Whether tensors hold the numbers they held before.
#pragma once

#include <cstring>
#include <vector>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

#include "arguments.h"

namespace reminding {

// Odd numbers whose bits differ: the first digits of 1/1.618 and 1/1.221, which spread multiples evenly.
constexpr uint64_t FIRST = 0x9E3779B97F4A7C15u, SECOND = 0xD1B54A32D192ED03u;

// What is known of the words of a tensor read so far, in eight columns, as a cache line has them.
//
// Plain sums would miss what users do to weights: a flipped sign adds the highest bit to a word, so that an even number
// of them adds nothing. So each word is multiplied, one half with the other, after a key that differs from place to
// place was mixed in. The halves themselves are added too, changed places, since a half of 0 hides the other.
class Mixed {
 public:
  static constexpr size_t words = 8, bytes = words * sizeof(uint64_t);

#if defined(__SSE2__) || defined(_M_X64)
  Mixed() {
    for (size_t j = 0; j < pairs; ++j) {
      sum[j] = _mm_setzero_si128();
      key[j] = two((2 * j + 1) * FIRST, (2 * j + 2) * FIRST);
      step[j] = two((4 * j + 1) * SECOND, (4 * j + 3) * SECOND);
    }
  }

  void add(const char* line) {
    for (size_t j = 0; j < pairs; ++j) {
      const __m128i word = _mm_loadu_si128(reinterpret_cast<const __m128i*>(line) + j);
      key[j] = _mm_add_epi64(key[j], step[j]);
      const __m128i keyed = _mm_xor_si128(word, key[j]);
      sum[j] = _mm_add_epi64(sum[j], _mm_mul_epu32(keyed, _mm_srli_epi64(keyed, 32)));
      sum[j] = _mm_add_epi64(sum[j], _mm_shuffle_epi32(word, 0xB1));
    }
  }

  void copy(uint64_t* columns) const { std::memcpy(columns, sum, bytes); }

 private:
  static constexpr size_t pairs = words / 2;
  static __m128i two(uint64_t first, uint64_t second) {
    return _mm_set_epi64x(static_cast<int64_t>(second), static_cast<int64_t>(first));
  }
  __m128i sum[pairs], key[pairs], step[pairs];
#else
  Mixed() {
    for (size_t j = 0; j < words; ++j) {
      sum[j] = 0;
      key[j] = (j + 1) * FIRST;
      step[j] = (2 * j + 1) * SECOND;
    }
  }

  void add(const char* line) {
    uint64_t word[words];
    std::memcpy(word, line, bytes);
    for (size_t j = 0; j < words; ++j) {
      key[j] += step[j];
      const uint64_t keyed = word[j] ^ key[j];
      sum[j] += (keyed & 0xFFFFFFFFu) * (keyed >> 32);
      sum[j] += (word[j] << 32) | (word[j] >> 32);
    }
  }

  void copy(uint64_t* columns) const { std::memcpy(columns, sum, bytes); }

 private:
  uint64_t sum[words], key[words], step[words];
#endif
};

// A number that changes with the numbers of the tensors, for caches of what was made of them. All are read: a change of
// one row, which leaves no other trace if it is made through `parameter.data`, shows too.
inline int64_t fingerprint(std::vector<Tensor> tensors) {
  uint64_t total = 0;
  for (const Tensor& x : tensors) {
    if (!x.is_contiguous() || !x.is_cpu() || !has_memory(x))
      refuse("tensors must be contiguous, on the CPU, and have memory");
    const int64_t bytes = x.numel() * static_cast<int64_t>(x.element_size()), block = Mixed::bytes;
    if (bytes == 0) continue;
    const char* from = static_cast<const char*>(x.data_ptr());
    const int64_t blocks = bytes / block;
    Mixed mixed;
    for (int64_t i = 0; i < blocks; ++i) mixed.add(from + i * block);
    char last[Mixed::bytes] = {};
    std::memcpy(last, from + blocks * block, static_cast<size_t>(bytes - blocks * block));
    mixed.add(last);
    uint64_t columns[Mixed::words];
    mixed.copy(columns);
    for (const uint64_t column : columns) {
      total = (total ^ column) * FIRST;
      total ^= total >> 32;  // a change of the highest bit alone would stay there
    }
  }
  return static_cast<int64_t>(total);
}

}  // namespace reminding
