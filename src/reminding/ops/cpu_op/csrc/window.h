// The memories of one row that a step may recall.
//
// A memory keeps its slot until the call ends, since the backward pass may credit it. Eviction only stops it from
// being scored. The remaining memories also have places, oldest first and without gaps, so that scoring is one plain
// loop. Evicting the oldest memory moves nothing, and places stay equal to slots. Evicting any other leaves a gap,
// which is closed by moving the shorter side.
//
// Shapes: M memory slots, D score width.
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
struct Window {
  T* keys = nullptr;         // (M, D) by place
  int32_t* slots = nullptr;  // (M,) by place; null if each memory's place is its slot
  int64_t first = 0, end = 0;

  int64_t size() const { return end - first; }
  int32_t slot(int64_t place) const { return slots != nullptr ? slots[place] : static_cast<int32_t>(place); }

  // Adds the newest memory. Its key is copied, unless places are slots and the key is already there.
  void append(int64_t slot, const T* key, int64_t D) {
    if (slots != nullptr) {
      slots[end] = static_cast<int32_t>(slot);
      if (D > 0) __builtin_memcpy(keys + end * D, key, sizeof(T) * static_cast<size_t>(D));  // D = 0: no keys
    }
    ++end;
  }

  void remove(int64_t place, int64_t D) {
    const int64_t older = place - first, newer = end - 1 - place;
    if (older <= newer) {
      move(first + 1, first, older, D);
      ++first;
    } else {
      move(place, place + 1, newer, D);
      --end;
    }
  }

  // The place of the memory that has received the least recall weight; of a tie, the oldest. received (M,) by slot.
  int64_t least_recalled(const T* received) const {
    int64_t least = first;
    for (int64_t place = first + 1; place < end; ++place)
      if (received[slot(place)] < received[slot(least)]) least = place;
    return least;
  }

 private:
  void move(int64_t to, int64_t from, int64_t size, int64_t D) const {
    if (size == 0) return;
    __builtin_memmove(slots + to, slots + from, sizeof(int32_t) * static_cast<size_t>(size));
    if (D > 0) __builtin_memmove(keys + to * D, keys + from * D, sizeof(T) * static_cast<size_t>(size * D));
  }
};

}  // namespace SAB_ISA
}  // namespace reminding
