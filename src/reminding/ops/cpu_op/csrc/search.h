// The best scores among many memories, without scoring them all.
//
// The groups of a tree (tree.h) are opened in the order of their bounds' scores; once the best unopened group scores
// below the worst ranked memory, the ranking is complete. The result is exactly that of a scan: the same code computes a
// member's score, and the older slot wins a tie.
//
// Shapes: M memories, D score width, H hidden.
#pragma once

#include "recall.h"
#include "tree.h"

namespace reminding {
namespace SAB_ISA {

// One tree for each row of a chunk. A tree is brought up to the last memory only when it is searched.
template <class T>
class BoundTrees {
 public:
  // Trees of one pass, with room for `slots` memories per row. None are built if they cannot help.
  BoundTrees(const Problem& p, const KeyedScore<T>& score, int64_t rows, int64_t slots)
      : BoundTrees(p, score, useful(p, slots) ? slots : 0, rows, nullptr, 0) {}

  // Trees that are kept from call to call, of `rows` rows from row `begin` on.
  BoundTrees(const Problem& p, const KeyedScore<T>& score, int64_t rows, const KeptTrees<T>& kept, int64_t begin)
      : BoundTrees(p, score, kept.points != nullptr ? p.M : 0, rows, &kept, begin) {}

  // Goes on with a row whose memories are in the slots [first, end).
  void go_on(int64_t r, int64_t first, int64_t end) {
    if (!any()) return;
    const int64_t* note = notes(r);
    policy_[r] = {note[1] != 0, static_cast<int32_t>(note[2]), static_cast<int32_t>(note[3])};
    known_[r] = end;
    turn_to(r);
    built_[r] = note[0] >= 0 && note[0] <= end && tree_.end() == note[0] && tree_.sound();
    if (!built_[r]) build(r, first, end);
  }

  void keep(int64_t r) {
    if (!any()) return;
    turn_to(r);
    int64_t* note = notes(r);
    note[0] = built_[r] ? tree_.end() : -1;
    note[1] = policy_[r].ordered;
    note[2] = policy_[r].wait;
    note[3] = policy_[r].pause;
  }

  // Begins a row's tree anew, of the memories in the slots [first, end).
  void build(int64_t r, int64_t first, int64_t end) {
    if (!any()) return;
    turn_to(r);
    built_[r] = true;
    policy_[r].ordered = true;
    tree_.clear(first);
    for (int64_t slot = first; slot < end; ++slot) tree_.alive(slot) = 1;
    known_[r] = end;
  }

  // Takes note of the memory in the next slot.
  void append(int64_t r, int64_t slot) {
    if (!any()) return;
    turn_to(r);
    tree_.alive(slot) = 1;
    known_[r] = slot + 1;
  }

  void remove(int64_t r, int64_t slot) {
    if (!any()) return;
    turn_to(r);
    tree_.alive(slot) = 0;
  }

  // Ranks the best of a row's `size` memories, the first of which is in the slot `first` or behind it, with prepared
  // keys (M, D) by slot, for the query of the score; those that were removed are left out. Returns false if a scan is, or
  // may be, cheaper: a search that can skip little costs more, and is then tried less and less often.
  bool search(int64_t r, const T* keys, int64_t first, int64_t size, Ranking<T>& best) {
    Policy& policy = policy_[r];
    if (!any() || !policy.ordered) return false;
    const bool always = search_ == Search::tree;
    if (!always && (size < least_searched || policy.wait > 0)) {
      policy.wait -= policy.wait > 0;
      return false;
    }
    turn_to(r);
    if (!catch_up(r, keys, first, size)) return false;
    const bool found = find(keys, best, always ? INT64_MAX : size / 4);
    policy.pause = found ? 0 : policy.pause < 128 ? 2 * policy.pause + 1 : policy.pause;
    policy.wait = policy.pause;
    return found;
  }

 private:
  static constexpr int64_t least_searched = 128, most_ranked = 64, notes_width = 4;

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
      : score_(score), search_(p.search), ranks_(p.ranks()), D_(score.width()), tree_(score, slots),
        bounded_(p.bounded()), own_points_(kept != nullptr ? 0 : rows * points()),
        own_links_(kept != nullptr ? 0 : rows * links()), waiting_(tree_.room().nodes),
        points_(kept != nullptr ? kept->points + begin * points() : own_points_.get()),
        links_(kept != nullptr ? kept->links + begin * links() : own_links_.get()),
        notes_(kept != nullptr ? kept->notes + begin * notes_width : nullptr) {
    if (kept != nullptr) return;
    for (int64_t r = 0; r < rows; ++r) build(r, 0, 0);
  }

  static bool useful(const Problem& p, int64_t slots) {
    if (!p.keyed() || p.search == Search::scan || p.ranks() > most_ranked) return false;
    return slots > TreeRoom::fan && (p.search == Search::tree || p.most_alive() >= least_searched);
  }
  bool any() const { return tree_.room().any(); }
  int64_t points() const { return tree_.room().nodes * tree_.point_width(); }
  int64_t links() const { return tree_.room().links; }
  int64_t* notes(int64_t r) const { return notes_ + r * notes_width; }
  void turn_to(int64_t r) { tree_.at(points_ + r * points(), links_ + r * links()); }

  // Brings the row's tree up to its last memory. Returns false if it is none.
  bool catch_up(int64_t r, const T* keys, int64_t first, int64_t size) {
    // Most of what was brought in may have been removed since.
    if (bounded_ && tree_.brought_in() > 2 * size + least_searched) tree_.clear(first);
    while (tree_.end() < known_[r]) {
      const T* key = keys + tree_.end() * D_;
      for (int64_t d = 0; d < D_; ++d) policy_[r].ordered = policy_[r].ordered && key[d] == key[d];
      if (tree_.alive(tree_.end()) == 0) ++tree_.end();
      else if (!tree_.insert(keys)) return built_[r] = policy_[r].ordered = false;
    }
    return policy_[r].ordered;
  }

  // Returns false if more than `limit` scores would be computed, if a bound is NaN, or if the tree is none.
  bool find(const T* keys, Ranking<T>& best, int64_t limit) {
    const T slack = score_.slack();
    best.size = size_ = 0;
    int64_t spent = 0;
    if (!open(tree_.height(), tree_.root(), keys, best, slack, spent)) return false;
    for (int64_t most = tree_.room().nodes; size_ > 0; --most) {
      const Group top = pop();
      if (best.full(ranks_) && top.bound + slack < best.score[ranks_ - 1]) return true;
      if (spent > limit || most == 0 || !open(top.level, top.node, keys, best, slack, spent)) return false;
    }
    return true;
  }

  bool open(int64_t level, int64_t node, const T* keys, Ranking<T>& best, T slack, int64_t& spent) {
    if (!tree_.holds_node(node)) return false;
    if (level == 0) return rank(node, keys, best, spent);
    return queue(level - 1, node, best, slack, spent);
  }

  // Queues those groups of a node that may contain a memory that ranks.
  bool queue(int64_t level, int64_t node, const Ranking<T>& best, T slack, int64_t& spent) {
    const int64_t n = tree_.members(node);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t child = tree_.member(node, i);
      if (!tree_.holds_node(child)) return false;
      from_[i] = tree_.bound(child);
    }
    score_.bounds(from_, scores_, n);
    spent += score_.bound_width() > D_ ? 2 * n : n;
    for (int64_t i = 0; i < n; ++i) {
      if (!(scores_[i] == scores_[i])) return false;
      if (best.full(ranks_) && scores_[i] + slack < best.score[ranks_ - 1]) continue;
      if (size_ == tree_.room().nodes) return false;
      push({scores_[i], static_cast<int32_t>(level), tree_.member(node, i)});
    }
    return true;
  }

  // Ranks the members of a node of the lowest level.
  bool rank(int64_t node, const T* keys, Ranking<T>& best, int64_t& spent) {
    int64_t oldest[TreeRoom::fan];
    for (int64_t i = 0; i < tree_.members(node);) {
      oldest[i] = tree_.oldest(tree_.member(node, i));
      if (oldest[i] < 0) tree_.drop(node, i);
      else from_[i] = keys + oldest[i] * D_, ++i;
    }
    const int64_t n = tree_.members(node);
    score_.scores(from_, scores_, n);
    spent += n;
    for (int64_t i = 0; i < n; ++i) {
      int64_t slot = oldest[i];
      while (slot >= 0 && best.insert(scores_[i], static_cast<int32_t>(slot), ranks_)) slot = tree_.younger(slot);
    }
    return true;
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
  const int64_t ranks_, D_;
  KeyTree<T> tree_;
  const bool bounded_;
  Buffer<T> own_points_;
  Buffer<int32_t> own_links_;
  Buffer<Group> waiting_;  // groups to be opened
  T* points_;              // (rows, nodes, width)
  int32_t* links_;         // (rows, links)
  int64_t* notes_;         // (rows, 4), of kept trees
  int64_t size_ = 0;
  const T* from_[TreeRoom::fan + 1];
  T scores_[TreeRoom::fan + 1];
  Policy policy_[max_rows];
  int64_t known_[max_rows];  // behind the slot of a row's last memory
  bool built_[max_rows];     // whether the tree holds a row's memories, up to its end
};

// For tests: the bounds of one row. keys (M, D) and query (D,) are not yet prepared, and are prepared here. out
// (levels, M): each memory's score, then the bounds of the groups that it is in, infinite above the top.
template <class T>
void bounds(const Problem& p, T* keys, T* query, const T* weight, T* out) {
  KeyedScore<T> score(p, weight);
  KeyTree<T> tree(score, p.M);
  Buffer<T> top(p.D), points(tree.room().nodes * tree.point_width());
  Buffer<int32_t> links(tree.room().links);
  tree.at(points.get(), links.get());
  for (int64_t d = 0; d < p.D; ++d) top[d] = 0;
  for (int64_t i = 0; i < p.M * TreeRoom::levels; ++i) out[i] = T(__builtin_inf());
  if (tree.room().any()) tree.clear(0);
  for (int64_t m = 0; m < p.M; ++m) {
    score.prepare(keys + m * p.D);
    score.raise_top(top.get(), keys + m * p.D);
    if (!tree.room().any()) continue;
    tree.alive(m) = 1;
    tree.insert(keys);
  }
  score.prepare(query);
  score.begin(query, top.get());
  score.scores(keys, out, p.M);
  if (!tree.room().any()) return;
  T above[TreeRoom::levels];
  const auto visit = [&](const auto& self, int64_t level, int64_t node) -> void {
    for (int64_t i = 0; i < tree.members(node); ++i) {
      const int64_t member = tree.member(node, i);
      if (level == 0) {
        for (int64_t slot = tree.oldest(member); slot >= 0; slot = tree.younger(slot))
          for (int64_t l = 0; l < tree.height(); ++l) out[(l + 1) * p.M + slot] = above[l];
        continue;
      }
      const T* from[] = {tree.bound(member)};
      score.bounds(from, above + level - 1, 1);
      above[level - 1] += score.slack();
      self(self, level - 1, member);
    }
  };
  visit(visit, tree.height(), tree.root());
}

}  // namespace SAB_ISA
}  // namespace reminding
