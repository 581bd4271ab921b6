// The best scores among many memories, without scoring them all.
//
// Memories form a tree: `fan` neighbouring slots are a group, `fan` neighbouring groups are a group of the next
// level, and so on. A group has a key of its own, the bound, whose score is at least that of every member. tanh is
// monotone, so for the additive score the bound is the elementwise maximum of the members' keys where W3 is positive,
// and their minimum where it is negative. A dot product needs both, and the query's sign selects one. Groups are
// opened in the order of their scores; once the best unopened group scores below the worst ranked memory, the ranking
// is complete. The result is exactly that of a scan: the same code computes a member's score, and the older slot wins
// a tie.
//
// Shapes: M memories, D score width, H hidden.
#pragma once

#include "recall.h"
#include "scores.h"

namespace reminding {
namespace SAB_ISA {

// One tree for each row of a chunk.
template <class T>
class BoundTrees {
 public:
  // Trees of one pass, with room for `slots` memories per row. None are built if they cannot help.
  BoundTrees(const Problem& p, const KeyedScore<T>& score, int64_t rows, int64_t slots)
      : BoundTrees(p, score, useful(p, slots) ? slots : 0, rows, nullptr, 0) {}

  // Trees that are kept from call to call, of `rows` rows from row `begin` on.
  BoundTrees(const Problem& p, const KeyedScore<T>& score, int64_t rows, const KeptTrees<T>& kept, int64_t begin)
      : BoundTrees(p, score, kept.bounds != nullptr ? p.M : 0, rows, &kept, begin) {}

  // Goes on with a row whose memories are in the slots [first, end), with keys (M, D) by slot.
  void go_on(int64_t r, const T* keys, int64_t first, int64_t end) {
    if (!any()) return;
    const int64_t* note = notes(r);
    policy_[r] = {note[1] != 0, static_cast<int32_t>(note[2]), static_cast<int32_t>(note[3])};
    built_[r] = note[0] == end;
    if (!built_[r]) build(r, keys, first, end);
  }

  void keep(int64_t r, int64_t end) const {
    if (!any()) return;
    int64_t* note = notes(r);
    note[0] = built_[r] ? end : -1;
    note[1] = policy_[r].ordered;
    note[2] = policy_[r].wait;
    note[3] = policy_[r].pause;
  }

  // Builds a row's tree from its memories, if there are enough for one.
  void build(int64_t r, const T* keys, int64_t first, int64_t end) {
    if (!any()) return;
    built_[r] = search_ == Search::tree || end - first >= least_searched;
    policy_[r].ordered = true;
    if (!built_[r]) return;
    __builtin_memset(&alive(r, 0, 0), 0, sizeof(int32_t) * static_cast<size_t>(levels_.nodes));
    for (int64_t slot = first; slot < end; ++slot) append(r, slot, keys + slot * D_);
  }

  // Adds the memory in the next slot, with its prepared key (D,).
  void append(int64_t r, int64_t slot, const T* key) {
    if (!any() || !built_[r]) return;
    for (int64_t d = 0; d < D_; ++d) policy_[r].ordered = policy_[r].ordered && key[d] == key[d];
    int64_t node = slot;
    alive(r, 0, slot) = 1;
    for (int64_t l = 1; l < levels_.size; ++l) {
      node /= Levels::fan;
      score_.widen(bound(r, l, node), key, alive(r, l, node) == 0);
      count(alive(r, l, node), 1);
    }
  }

  void remove(int64_t r, int64_t slot) {
    if (!any() || !built_[r]) return;
    for (int64_t l = 0; l < levels_.size; ++l, slot /= Levels::fan) count(alive(r, l, slot), -1);
  }

  // Ranks the best of the memories in the slots [first, end), whose keys are (M, D) by slot, for the query of the score;
  // those that were removed are left out. Returns false if a scan is, or may be, cheaper: a search that can skip little
  // costs more, and is then tried less and less often.
  bool search(int64_t r, const T* keys, int64_t first, int64_t end, int64_t size, Ranking<T>& best) {
    Policy& policy = policy_[r];
    if (!any() || !policy.ordered) return false;
    if (!built_[r]) build(r, keys, first, end);
    if (!built_[r]) return false;
    if (search_ == Search::tree) return find(r, keys, best, INT64_MAX);
    if (size < least_searched || policy.wait > 0) {
      policy.wait -= policy.wait > 0;
      return false;
    }
    const bool found = find(r, keys, best, size / 4);
    policy.pause = found ? 0 : policy.pause < 128 ? 2 * policy.pause + 1 : policy.pause;
    policy.wait = policy.pause;
    return found;
  }

  const Levels& levels() const { return levels_; }
  // The bounds (nodes,) on the scores of a level's groups, without `slack`.
  void scores(int64_t r, int64_t l, T* out) const { score_.bounds(bound(r, l, 0), out, levels_.level[l].nodes); }

 private:
  static constexpr int64_t least_searched = 64, most_ranked = 64, notes_width = 4;

  struct Group {
    T bound;
    int32_t level, node;
  };
  struct Policy {
    bool ordered = true;  // a NaN has no place in an order
    int32_t wait = 0, pause = 0;
  };

  BoundTrees(const Problem& p, const KeyedScore<T>& score, int64_t slots, int64_t rows, const KeptTrees<T>* kept,
             int64_t begin)
      : score_(score), search_(p.search), ranks_(p.ranks()), D_(score.width()), width_(score.bound_width()),
        levels_(slots), own_bounds_(kept != nullptr ? 0 : rows * levels_.groups() * width_),
        own_alive_(kept != nullptr ? 0 : rows * levels_.nodes), waiting_(levels_.groups()), spare_(Levels::fan),
        bounds_(kept != nullptr ? kept->bounds + begin * levels_.groups() * width_ : own_bounds_.get()),
        alive_(kept != nullptr ? kept->alive + begin * levels_.nodes : own_alive_.get()),
        notes_(kept != nullptr ? kept->notes + begin * notes_width : nullptr) {
    for (int64_t r = 0; r < rows; ++r) built_[r] = kept == nullptr;
    if (kept != nullptr || !any()) return;
    __builtin_memset(alive_, 0, sizeof(int32_t) * static_cast<size_t>(rows * levels_.nodes));
  }

  static bool useful(const Problem& p, int64_t slots) {
    if (!p.keyed() || p.search == Search::scan || p.ranks() > most_ranked) return false;
    return slots > Levels::fan && (p.search == Search::tree || p.most_alive() >= least_searched);
  }
  bool any() const { return levels_.size > 1; }
  int64_t* notes(int64_t r) const { return notes_ + r * notes_width; }
  T* bound(int64_t r, int64_t l, int64_t node) const {
    return bounds_ + (r * levels_.groups() + levels_.group(l, node)) * width_;
  }
  int32_t& alive(int64_t r, int64_t l, int64_t node) const { return alive_[r * levels_.nodes + levels_.place(l, node)]; }

  // Kept counts are not checked at the door, of which there are as many as memories: any number may stand there.
  static void count(int32_t& members, int32_t more) {
    members = static_cast<int32_t>(static_cast<uint32_t>(members) + static_cast<uint32_t>(more));
  }

  // Returns false if more than `limit` scores would be computed, or if a bound is NaN.
  bool find(int64_t r, const T* keys, Ranking<T>& best, int64_t limit) {
    const T slack = score_.slack();
    best.size = size_ = 0;
    if (!open(r, levels_.top(), 0, levels_.level[levels_.top()].nodes, best, slack)) return false;
    for (int64_t spent = 0; size_ > 0;) {
      const Group top = pop();
      if (best.full(ranks_) && top.bound + slack < best.score[ranks_ - 1]) return true;
      const int64_t below = top.level - 1, first = top.node * Levels::fan, most = levels_.level[below].nodes;
      const int64_t end = first + Levels::fan < most ? first + Levels::fan : most;
      spent += below > 0 && width_ > D_ ? 2 * (end - first) : end - first;
      if (spent > limit) return false;
      if (below == 0) rank(r, keys, first, end, best);
      else if (!open(r, below, first, end, best, slack)) return false;
    }
    return true;
  }

  // Queues those of at most `fan` groups that may contain a memory that ranks.
  bool open(int64_t r, int64_t l, int64_t first, int64_t end, const Ranking<T>& best, T slack) {
    T* bounds = spare_.get();
    score_.bounds(bound(r, l, first), bounds, end - first);
    for (int64_t node = first; node < end; ++node) {
      const T value = bounds[node - first];
      if (alive(r, l, node) == 0) continue;
      if (!(value == value)) return false;
      if (best.full(ranks_) && value + slack < best.score[ranks_ - 1]) continue;
      push({value, static_cast<int32_t>(l), static_cast<int32_t>(node)});
    }
    return true;
  }

  void rank(int64_t r, const T* keys, int64_t first, int64_t end, Ranking<T>& best) {
    score_.scores(keys + first * D_, spare_.get(), end - first);
    for (int64_t m = first; m < end; ++m)
      if (alive(r, 0, m) != 0) best.insert(spare_[m - first], static_cast<int32_t>(m), ranks_);
  }

  // A heap of groups: the largest bound first.
  void push(const Group& group) {
    int64_t at = size_++;
    for (; at > 0 && waiting_[(at - 1) / 2].bound < group.bound; at = (at - 1) / 2) waiting_[at] = waiting_[(at - 1) / 2];
    waiting_[at] = group;
  }

  Group pop() {
    const Group top = waiting_[0], moved = waiting_[--size_];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < size_; at = child) {
      if (child + 1 < size_ && waiting_[child].bound < waiting_[child + 1].bound) ++child;
      if (!(moved.bound < waiting_[child].bound)) break;
      waiting_[at] = waiting_[child];
    }
    waiting_[at] = moved;
    return top;
  }

  const KeyedScore<T>& score_;
  const Search search_;
  const int64_t ranks_, D_, width_;
  const Levels levels_;
  Buffer<T> own_bounds_;
  Buffer<int32_t> own_alive_;
  Buffer<Group> waiting_;   // groups to be opened
  Buffer<T> spare_;
  T* bounds_;        // (rows, groups, width)
  int32_t* alive_;   // (rows, nodes): members that may be recalled
  int64_t* notes_;   // (rows, 4), of kept trees
  int64_t size_ = 0;
  Policy policy_[max_rows];
  bool built_[max_rows];  // whether the tree holds all of a row's memories
};

// For tests: the bounds of one row. keys (M, D) and query (D,) are not yet prepared, and are prepared here. out
// (levels, M): each memory's score, then the bound of its group at each level.
template <class T>
void bounds(const Problem& p, T* keys, T* query, const T* weight, T* out) {
  KeyedScore<T> score(p, weight);
  BoundTrees<T> trees(p, score, 1, p.M);
  Buffer<T> top(p.D), spare(p.M);
  for (int64_t d = 0; d < p.D; ++d) top[d] = 0;
  for (int64_t m = 0; m < p.M; ++m) {
    score.prepare(keys + m * p.D);
    score.raise_top(top.get(), keys + m * p.D);
    trees.append(0, m, keys + m * p.D);
  }
  score.prepare(query);
  score.begin(query, top.get());
  score.scores(keys, out, p.M);
  int64_t members = 1;
  for (int64_t l = 1; l < trees.levels().size; ++l) {
    members *= Levels::fan;
    trees.scores(0, l, spare.get());
    for (int64_t m = 0; m < p.M; ++m) out[l * p.M + m] = spare[m / members] + score.slack();
  }
}

}  // namespace SAB_ISA
}  // namespace reminding
