// Shares the rows of the batch out to threads, and sums over rows in an order that does not depend on the threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace reminding {

constexpr int64_t max_chunk = 24;  // rows; more do not make the small products faster, and gemm.h takes at most 64

struct Chunks {
  int64_t rows, size, threads;

  // Rows per chunk: enough for full tiles in the small products, few enough that their keys stay in cache.
  Chunks(int64_t rows_, int64_t row_bytes) : rows(rows_) {
    constexpr int64_t cache_bytes = int64_t(4) << 20;
    threads = std::max<int64_t>(1, std::min<int64_t>(torch::stable::get_num_threads(), rows));
    const int64_t fit = std::max<int64_t>(6, cache_bytes / threads / std::max<int64_t>(row_bytes, 1));
    const int64_t share = (rows + threads - 1) / threads;
    const int64_t most = std::max<int64_t>(1, std::min({fit, share, max_chunk}));
    const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
    size = (rows + chunks - 1) / chunks;  // about equal: 64 rows are 22 + 22 + 20, not 24 + 24 + 16
  }
  int64_t count() const { return size > 0 ? (rows + size - 1) / size : 0; }
};

// Calls work(chunk, begin, end) for every chunk. Threads draw chunks from a counter, so that one whose core is busy
// with other work draws fewer.
template <class Work>
void for_chunks(const Chunks& chunks, int64_t first, const Work& work) {
  if (chunks.rows == 0) return;
  std::atomic<int64_t> next{0};
  auto drain = [&](int64_t, int64_t) {
    for (int64_t i = next++; i < chunks.count(); i = next++)
      work(i, first + i * chunks.size, first + std::min((i + 1) * chunks.size, chunks.rows));
  };
  if (chunks.threads == 1) drain(0, 1);
  else torch::stable::parallel_for(0, chunks.threads, 1, drain);
}

// Adds each chunk's part to the totals in the order of the chunks, so that the result does not depend on which thread
// finished first. No thread waits: a part that comes early is kept until its turn.
template <class T, size_t N>
class OrderedSum {
 public:
  struct Total {
    T* data;
    int64_t size;
  };
  using Totals = std::array<Total, N>;

  OrderedSum(const Totals& totals, const Chunks& chunks)
      : totals_(totals), direct_(chunks.threads == 1), parts_(static_cast<size_t>(chunks.count())) {}

  // Where the chunk adds its part. A single thread takes the chunks in order and adds to the totals directly.
  std::array<T*, N> begin(int64_t chunk) {
    std::array<T*, N> where;
    int64_t size = 0;
    for (const Total& total : totals_) size += total.size;
    if (!direct_) parts_[static_cast<size_t>(chunk)].values.assign(static_cast<size_t>(size), T(0));
    T* at = parts_[static_cast<size_t>(chunk)].values.data();
    for (size_t i = 0; i < N; ++i) {
      where[i] = direct_ ? totals_[i].data : at;
      if (!direct_) at += totals_[i].size;
    }
    return where;
  }

  void end(int64_t chunk) {
    if (direct_) return;
    const std::lock_guard<std::mutex> hold(mutex_);
    parts_[static_cast<size_t>(chunk)].done = true;
    for (; next_ < parts_.size() && parts_[next_].done; ++next_) {
      const T* from = parts_[next_].values.data();
      for (const Total& total : totals_)
        for (int64_t i = 0; i < total.size; ++i) total.data[i] += *from++;
      std::vector<T>().swap(parts_[next_].values);
    }
  }

 private:
  struct Part {
    std::vector<T> values;
    bool done = false;
  };

  const Totals totals_;
  const bool direct_;
  std::vector<Part> parts_;
  std::mutex mutex_;
  size_t next_ = 0;
};

}  // namespace reminding
