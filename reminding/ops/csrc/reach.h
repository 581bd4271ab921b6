// Which (step, row) pairs and which memories get any gradient: integers only, from last step to first.
//
// A step is live if the loss reaches it directly, or through the next step of its segment, or through the memory it
// became, once a later live step has recalled that. With the loss at the last step only, few are.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.h"

namespace reminding {

template <class T>
struct ReachArgs {
  Problem problem;
  const int64_t *step0, *count0;                             // (B,)
  const T *d_output, *d_summary, *d_c_T, *d_memory;          // each may be null
  const int32_t *slots, *edge;                               // (T, B, K), (T, B)
  const T* inverse;                                          // (T, B)
  bool* live;                                                // (T, B)
  bool* touched;                                             // (B, M): a live step scored it, or d_memory names it
};

template <class T>
bool any_nonzero(const T* x, int64_t size) {
  for (int64_t i = 0; i < size; i += 16) {
    bool any = false;
    const int64_t end = i + 16 < size ? i + 16 : size;
    for (int64_t j = i; j < end; ++j) any |= x[j] != 0;
    if (any) return true;
  }
  return false;
}

template <class T>
class Reach {
 public:
  explicit Reach(const ReachArgs<T>& args)
      : a(args), p(args.problem), carried_(static_cast<size_t>(p.B)), credited_(static_cast<size_t>(p.B * p.M)) {}

  void run() {
    for (int64_t i = 0; i < p.B * p.M; ++i)
      credited_[i] = a.touched[i] = a.d_memory != nullptr && any_nonzero(a.d_memory + i * p.H, p.H);
    for (int64_t b = 0; b < p.B; ++b)
      carried_[b] = p.has_c() && a.d_c_T != nullptr && any_nonzero(a.d_c_T + b * p.H, p.H);
    for (int64_t t = p.T - 1; t >= 0; --t)
      for (int64_t b = 0; b < p.B; ++b) visit(t, b);
  }

 private:
  void visit(int64_t t, int64_t b) {
    const int64_t at = t * p.B + b, taken = a.step0[b] + t;
    bool live = carried_[b];
    if (!live && a.d_output != nullptr) live = any_nonzero(a.d_output + at * p.H, p.H);
    if (!live && a.d_summary != nullptr) live = any_nonzero(a.d_summary + at * p.H, p.H);
    if (!live && p.stores(taken)) live = credited_[b * p.M + p.slot(taken, a.step0[b], a.count0[b])];
    a.live[at] = live;
    carried_[b] = live && !p.cuts(taken);
    if (!live || p.k_top == 0 || a.inverse[at] == T(no_recall)) return;
    for (int64_t i = 0; i < p.k_top && a.slots[at * p.k_top + i] >= 0; ++i) mark(b, a.slots[at * p.k_top + i]);
    if (a.edge[at] >= 0) mark(b, a.edge[at]);
  }

  void mark(int64_t b, int64_t slot) {
    a.touched[b * p.M + slot] = true;
    if (p.backtrack) credited_[b * p.M + slot] = true;
  }

  const ReachArgs<T>& a;
  const Problem& p;
  std::vector<char> carried_, credited_;
};

}  // namespace reminding
