// The memories of one row that a step may recall.
//
// What a call stores stays in its slot to the end, since the backward pass may credit it; an evicted memory is only no
// longer scored. Those alive also have places: oldest first and without gaps, so that scoring stays one plain loop.
// Evicting the oldest moves nothing, and places remain slots; any other leaves a gap, which its shorter side closes.
//
// Shapes: M memory slots, D score width.
#pragma once

#include "simd.h"

namespace reminding {
namespace SAB_ISA {

template <class T>
struct Window {
  T* keys = nullptr;         // (M, D) by place
  int32_t* slots = nullptr;  // (M,) by place; null where each memory's place is its slot
  int64_t first = 0, end = 0;

  int64_t size() const { return end - first; }
  int32_t slot(int64_t place) const { return slots != nullptr ? slots[place] : static_cast<int32_t>(place); }

  // A memory behind the others; its key is already in place where places are slots.
  void append(int64_t slot, const T* key, int64_t D) {
    if (slots != nullptr) {
      slots[end] = static_cast<int32_t>(slot);
      if (D > 0) __builtin_memcpy(keys + end * D, key, sizeof(T) * static_cast<size_t>(D));  // else there is no key
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

  // The place that has received the least recall weight, the oldest of equals; received (M,) by slot.
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
    __builtin_memmove(keys + to * D, keys + from * D, sizeof(T) * static_cast<size_t>(size * D));
  }
};

}  // namespace SAB_ISA
}  // namespace reminding
