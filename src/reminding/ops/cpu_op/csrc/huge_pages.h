// Huge pages for large tensors that are about to be written, as long as the kernel has some at hand.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace reminding {

class HugePages {
 public:
  // Writes a byte of each huge page that lies within the memory, whose content is lost.
  static void fill(char* data, size_t bytes) {
    if (seconds(CLOCK_MONOTONIC) < resume().load(std::memory_order_relaxed)) return;
    char *page = data + (size - reinterpret_cast<uintptr_t>(data) % size) % size, *end = data + bytes;
    for (; page + size <= end; page += size) {
      // Only advice: if the kernel declines, small pages are used.
      if (madvise(page, size, MADV_HUGEPAGE) != 0) return;
      const double began = seconds(CLOCK_THREAD_CPUTIME_ID);
      *static_cast<volatile char*>(page) = 0;
      if (seconds(CLOCK_THREAD_CPUTIME_ID) - began < slow) continue;
      resume().store(seconds(CLOCK_MONOTONIC) + pause, std::memory_order_relaxed);
      return;
    }
  }

 private:
  static constexpr size_t size = size_t(2) << 20;
  static constexpr double slow = 1e-3;  // more than its 512 small pages take
  static constexpr double pause = 1;    // seconds without huge pages behind a slow one

  static double seconds(clockid_t clock) {
    timespec now = {};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  static std::atomic<double>& resume() {
    static std::atomic<double> at{0};
    return at;
  }
};

}  // namespace reminding
#endif
