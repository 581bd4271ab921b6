// Whether tensors hold the numbers they held before.
#pragma once

#include <cstring>
#include <vector>

#include "arguments.h"

namespace reminding {

// A number that changes with the numbers of the tensors, for caches of what was made of them. All are read: a change of
// one row, which leaves no other trace if it is made through `parameter.data`, shows too.
inline int64_t fingerprint(std::vector<Tensor> tensors) {
  constexpr size_t words = 8;  // of a block: a cache line
  typedef uint64_t Line __attribute__((vector_size(sizeof(uint64_t) * words)));
  uint64_t total = 0;
  for (const Tensor& x : tensors) {
    if (!x.is_contiguous() || !x.is_cpu() || !has_memory(x))
      refuse("tensors must be contiguous, on the CPU, and have memory");
    const int64_t bytes = x.numel() * static_cast<int64_t>(x.element_size()), block = sizeof(uint64_t) * words;
    if (bytes == 0) continue;
    const char* from = static_cast<const char*>(x.data_ptr());
    const int64_t blocks = bytes / block;
    Line sum = {}, order = {};
    for (int64_t i = 0; i < blocks; ++i) {
      Line line;
      std::memcpy(&line, from + i * block, sizeof(line));
      sum += line;
      order += sum;
    }
    uint64_t last[words] = {};
    std::memcpy(last, from + blocks * block, static_cast<size_t>(bytes - blocks * block));
    for (size_t j = 0; j < words; ++j)
      total = (total ^ (sum[j] + last[j])) * 0x9E3779B97F4A7C15u + order[j];
  }
  return static_cast<int64_t>(total);
}

}  // namespace reminding
