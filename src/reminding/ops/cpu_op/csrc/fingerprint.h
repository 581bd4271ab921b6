// Whether tensors hold the numbers they held before, told at a small part of the cost of reading all of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "arguments.h"

namespace reminding {

// A number that changes with the numbers of the tensors, for caches of what was made of them. Of a large tensor only
// some are read, evenly spaced: a change of any kind that training makes shows in them too.
inline int64_t fingerprint(std::vector<Tensor> tensors) {
  constexpr int64_t most = 128;  // blocks of a tensor
  constexpr size_t words = 8;     // of a block: a cache line
  uint64_t total = 0;
  for (const Tensor& x : tensors) {
    if (!x.is_contiguous() || !x.is_cpu() || !has_memory(x))
      refuse("tensors must be contiguous, on the CPU, and have memory");
    const int64_t bytes = x.numel() * static_cast<int64_t>(x.element_size()), block = sizeof(uint64_t) * words;
    if (bytes == 0) continue;
    const char* from = static_cast<const char*>(x.data_ptr());
    const int64_t blocks = bytes / block, stride = std::max<int64_t>(1, blocks / most);
    uint64_t sum[words] = {}, order[words] = {};
    for (int64_t i = 0; i < blocks; i += stride) {
      uint64_t word[words];
      std::memcpy(word, from + i * block, sizeof(word));
      for (size_t j = 0; j < words; ++j) order[j] += sum[j] += word[j];
    }
    uint64_t last[words] = {};
    std::memcpy(last, from + blocks * block, static_cast<size_t>(bytes - blocks * block));
    for (size_t j = 0; j < words; ++j)
      total = (total ^ (sum[j] + last[j])) * 0x9E3779B97F4A7C15u + order[j];
  }
  return static_cast<int64_t>(total);
}

}  // namespace reminding
