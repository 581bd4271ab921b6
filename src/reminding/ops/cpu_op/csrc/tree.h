// Memories in groups of similar keys.
//
// Up to `fan` memories are a group, up to `fan` groups are a group of the next level, and so on: all memories are at the
// same depth, as in a B-tree. A memory joins the group whose centre is nearest, from the top down; a group that grows too
// large is split in two by k-means. Each group has a bound: a key whose score is at least that of every member. tanh is
// monotone, so for the additive score the bound is the elementwise maximum of the members' keys where W3 is positive,
// and their minimum where it is negative. A dot product needs both, and the query's sign selects one.
//
// Memories with equal keys are one member, a class: a state at rest stores the same keys again and again, and all of
// these have one score. A table of fingerprints finds the class. Similar keys are distant in time where a stream repeats
// itself, so groups of neighbours in time would have loose bounds.
//
// Shapes: M slots, D score width, W width of a bound: D, or 2 D for a dot product.
#pragma once

#include "keyed.h"

namespace reminding {
namespace SAB_ISA {

// The tree of one row at a time. What it keeps may come from anywhere and is not checked at the door, since it is as
// large as the memories are many: each number is checked where it is used.
template <class T>
class KeyTree {
 public:
  static constexpr int64_t fan = TreeRoom::fan, highest = TreeRoom::levels - 1;

  KeyTree(const KeyedScore<T>& score, int64_t slots)
      : score_(score), D_(score.width()), width_(score.bound_width()), room_(slots), place_(D_),
        places_((fan + 1) * D_), centres_(2 * D_) {}

  const TreeRoom& room() const { return room_; }
  int64_t point_width() const { return width_ + D_; }

  // Goes over to a row. points (nodes, W + D): bound and centre of each node; links (room.links,).
  void at(T* points, int32_t* links) {
    points_ = points;
    links_ = links;
  }

  // Empties the tree, whose first memory will be in the slot `begin`.
  void clear(int64_t begin) {
    members(0) = 0;
    root() = height() = brought_in() = 0;
    used() = 1;
    end() = static_cast<int32_t>(begin);
    for (int64_t i = 0; i < room_.slots; ++i) slot_links(i)[4] = -1;
  }

  // How many memories were brought in, and the slot behind the last.
  int32_t& brought_in() const { return links_[3]; }
  int32_t& end() const { return links_[4]; }
  // Whether a slot's memory may be recalled.
  int32_t& alive(int64_t slot) const { return slot_links(slot)[2]; }
  int32_t& root() const { return links_[0]; }
  int32_t& height() const { return links_[1]; }
  // How many members a node has, and these: groups, or at the lowest level the slot that each class began with.
  int32_t& members(int64_t node) const { return node_links(node)[0]; }
  int32_t& member(int64_t node, int64_t i) const { return node_links(node)[1 + i]; }
  T* bound(int64_t node) const { return points_ + node * point_width(); }

  bool holds_node(int64_t node) const { return node >= 0 && node < used() && members(node) >= 0 && members(node) <= fan; }
  bool sound() const {
    return used() > 0 && used() <= room_.nodes && height() >= 0 && height() < highest && holds_node(root());
  }

  // The next younger memory of the class, -1 if there is none. Those that were removed in between are left out from then
  // on; but not the last, behind which the next of the class will come.
  int64_t younger(int64_t slot) const {
    int64_t next = following(slot);
    while (next >= 0 && alive(next) == 0) next = following(next);
    if (next >= 0) slot_links(slot)[0] = static_cast<int32_t>(next);
    return next;
  }

  // The oldest memory that is alive of a class, -1 if there is none.
  int64_t oldest(int64_t first) const {
    if (first < 0 || first >= end()) return -1;
    return alive(first) != 0 ? first : younger(first);
  }

  // Drops the class in place i of a lowest node, of which no memory is alive.
  void drop(int64_t node, int64_t i) const {
    const int64_t first = member(node, i);
    if (first >= 0 && first < end()) youngest(first) = -1;
    const int32_t last = --members(node);
    member(node, i) = member(node, last);
  }

  // Brings in the memory in the slot `end`, with prepared keys (M, D) by slot. Returns false if this is no tree, or if
  // there is no room, which a tree that is sound has.
  bool insert(const T* keys) {
    const int32_t slot = end();
    const T* key = keys + slot * D_;
    slot_links(slot)[0] = -1;
    youngest(slot) = slot;
    int32_t& newest = bucket(key);
    slot_links(slot)[3] = newest;
    if (join(newest, keys)) return brought();
    newest = slot;
    score_.place(key, place_.get());
    int64_t node = root();
    for (int64_t level = height(); level > 0; --level) {
      if (!holds_node(node)) return false;
      path_[level] = node;
      node = nearest(node);
      if (node < 0) return false;
      score_.widen(bound(node), key, false);
    }
    if (!holds_node(node)) return false;
    path_[0] = node;
    member(node, members(node)++) = slot;
    return (members(node) <= fan || split(0, keys)) && brought();
  }

 private:
  int32_t& used() const { return links_[2]; }
  int32_t* node_links(int64_t node) const { return links_ + TreeRoom::header + node * TreeRoom::per_node; }
  int32_t* slot_links(int64_t slot) const {
    return links_ + TreeRoom::header + room_.nodes * TreeRoom::per_node + slot * TreeRoom::per_slot;
  }
  int32_t& youngest(int64_t slot) const { return slot_links(slot)[1]; }
  T* centre(int64_t node) const { return bound(node) + width_; }

  // The member of a node whose centre is nearest to `place_`; -1 if there is none.
  int64_t nearest(int64_t node) const {
    int64_t best = -1;
    T least = 0;
    for (int64_t i = 0; i < members(node); ++i) {
      const int64_t child = member(node, i);
      if (!holds_node(child)) return -1;
      const T distance = square_distance(place_.get(), centre(child), D_);
      if (best >= 0 && !(distance < least)) continue;
      best = child;
      least = distance;
    }
    return best;
  }

  int64_t following(int64_t slot) const {
    const int64_t next = slot_links(slot)[0];
    return next > slot && next < end() ? next : -1;
  }

  bool brought() const {
    ++brought_in();
    ++end();
    return true;
  }

  // The newest class whose keys have the fingerprint of this one.
  int32_t& bucket(const T* key) const {
    uint64_t mixed = 0;
    for (int64_t d = 0; d < D_; ++d) {
      uint64_t word = 0;
      __builtin_memcpy(&word, key + d, sizeof(T));
      mixed = (mixed ^ word) * 0x9e3779b97f4a7c15u;
      mixed ^= mixed >> 32;
    }
    return slot_links(static_cast<int64_t>(mixed % static_cast<uint64_t>(room_.slots)))[4];
  }

  // Joins the memory in the slot `end` to the class of an equal key, if there is one among those from `newest` on.
  bool join(int64_t newest, const T* keys) const {
    const int64_t slot = end();
    for (int64_t first = newest, before = slot; first >= 0 && first < before; before = first, first = slot_links(first)[3]) {
      const int64_t last = youngest(first);
      if (last < first || last >= slot) continue;
      if (__builtin_memcmp(keys + first * D_, keys + slot * D_, sizeof(T) * static_cast<size_t>(D_)) != 0) continue;
      slot_links(last)[0] = youngest(first) = static_cast<int32_t>(slot);
      return true;
    }
    return false;
  }

  // Splits the node of the path at this level, which has one member too many, and those above it where that makes them
  // too large.
  bool split(int64_t level, const T* keys) {
    const int64_t node = path_[level], n = fan + 1;
    const bool top = node == root();
    if (used() + 1 + (top ? 1 : 0) > room_.nodes || (top && level + 1 == highest)) return false;
    const int64_t other = used()++;
    int32_t all[fan + 1];
    for (int64_t i = 0; i < n; ++i) {
      all[i] = member(node, i);
      if (level == 0 && (all[i] < 0 || all[i] > end())) return false;
      if (level == 0) score_.place(keys + all[i] * D_, places_.get() + i * D_);
      else __builtin_memcpy(places_.get() + i * D_, centre(all[i]), sizeof(T) * static_cast<size_t>(D_));
    }
    bool second[fan + 1];
    halve(second);
    members(node) = members(other) = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t to = second[i] ? other : node;
      if (level == 0) score_.widen(bound(to), keys + all[i] * D_, members(to) == 0);
      else score_.unite(bound(to), bound(all[i]), members(to) == 0);
      member(to, members(to)++) = all[i];
    }
    __builtin_memcpy(centre(node), centres_.get(), sizeof(T) * static_cast<size_t>(D_));
    __builtin_memcpy(centre(other), centres_.get() + D_, sizeof(T) * static_cast<size_t>(D_));
    if (top) {
      const int64_t above = used()++;
      root() = static_cast<int32_t>(above);
      ++height();
      members(above) = 1;
      member(above, 0) = static_cast<int32_t>(node);
      path_[level + 1] = above;
    }
    const int64_t above = path_[level + 1];
    member(above, members(above)++) = static_cast<int32_t>(other);
    return members(above) <= fan || split(level + 1, keys);
  }

  // Halves the places (fan + 1, D) by k-means: whether each is in the second half, and the centres of both. Neither half
  // has less than `fewest`, so that the number of nodes has a limit.
  void halve(bool* second) {
    constexpr int64_t n = fan + 1, rounds = 3;
    T *first_centre = centres_.get(), *second_centre = centres_.get() + D_;
    for (int64_t i = 0; i < n; ++i) second[i] = false;
    mean(second, false, first_centre);
    __builtin_memcpy(second_centre, farthest(first_centre), sizeof(T) * static_cast<size_t>(D_));
    __builtin_memcpy(first_centre, farthest(second_centre), sizeof(T) * static_cast<size_t>(D_));
    for (int64_t round = 0; round < rounds; ++round) {
      if (round > 0) {
        mean(second, false, first_centre);
        mean(second, true, second_centre);
      }
      T lean[n];  // towards the second
      int64_t order[n];
      for (int64_t i = 0; i < n; ++i) {
        const T* place = places_.get() + i * D_;
        lean[i] = square_distance(place, first_centre, D_) - square_distance(place, second_centre, D_);
        int64_t at = i;
        for (; at > 0 && lean[order[at - 1]] > lean[i]; --at) order[at] = order[at - 1];
        order[at] = i;
      }
      for (int64_t rank = 0; rank < n; ++rank) {
        const bool leans = lean[order[rank]] > 0;
        second[order[rank]] = (leans && rank >= TreeRoom::fewest) || rank >= n - TreeRoom::fewest;
      }
    }
  }

  void mean(const bool* second, bool which, T* out) const {
    T count = 0;
    for (int64_t i = 0; i < fan + 1; ++i) count += second[i] == which ? T(1) : T(0);
    for (int64_t d = 0; d < D_; d += Simd<T>::width) {
      Vec<T> total = {};
      for (int64_t i = 0; i < fan + 1; ++i)
        if (second[i] == which) total += load<T>(places_.get() + i * D_ + d, D_ - d);
      store<T>(out + d, total / fill<T>(count), D_ - d);
    }
  }

  const T* farthest(const T* from) const {
    int64_t found = 0;
    T most = -1;
    for (int64_t i = 0; i < fan + 1; ++i) {
      const T distance = square_distance(places_.get() + i * D_, from, D_);
      if (!(distance > most)) continue;
      most = distance;
      found = i;
    }
    return places_.get() + found * D_;
  }

  const KeyedScore<T>& score_;
  const int64_t D_, width_;
  const TreeRoom room_;
  Buffer<T> place_, places_, centres_;
  int64_t path_[highest + 1];
  T* points_ = nullptr;
  int32_t* links_ = nullptr;
};

}  // namespace SAB_ISA
}  // namespace reminding
