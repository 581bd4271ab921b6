// The arguments of a kernel: sizes, rules and pointers to its tensors. Nothing here depends on the instruction set.
//
// Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step,
// row) pairs, S slots that any live step recalls.
#pragma once

#include <cstdint>

namespace reminding {

enum class Cell : int64_t { lstm = 0, gru = 1, rnn = 2 };
enum class Score : int64_t { additive = 0, dot = 1, separable = 2 };
constexpr Score last_score = Score::separable;
enum class Normalizer : int64_t { threshold = 0, softmax = 1, softmax1 = 2 };
enum class Semantics : int64_t { paper = 0, release = 1 };
enum class Evict : int64_t { fifo = 0, least_recalled = 1 };
// How the best scores are found: by scoring all memories, by a tree of bounds, or by the cheaper of the two so far.
enum class Search : int64_t { automatic = 0, scan = 1, tree = 2 };
enum class Stored : int64_t { h = 0, proposal = 1 };

// An element of a tensor of bools; 0 is false. Not bool: a caller's byte may be neither 0 nor 1, and reading such a
// byte as a bool is undefined.
using Flag = uint8_t;

// `inverse` holds what the backward pass multiplies by, per step and row. Two values are special.
constexpr int no_recall = 0;     // nothing was recalled: no gradient
constexpr int raw_weights = -1;  // the weights are the release's unnormalised scores

struct Problem {
  int64_t T, B, H, D, M;  // M: slots for the memories given and for those that a call can add
  Cell cell;
  Score score;
  Normalizer normalizer;
  Semantics semantics;
  int64_t k_top, k_att, k_trunc;  // k_trunc 0: never cut
  bool backtrack;
  int64_t capacity;  // memories a row may hold; 0: no limit
  Evict evict;       // which memory is evicted from a full row
  double recall_scale;  // multiplies the normalised weights
  double forget_scale;  // multiplies an LSTM's forget gate
  Search search;
  bool null_score;      // whether recalling nothing has a learned score
  bool summary_gate;    // whether a learned gate multiplies the summary
  Stored stored;        // the state stored as a memory: h or h_hat

  int64_t gates() const { return cell == Cell::rnn ? H : 4 * H; }  // the GRU saves W_hn h + b_hn as a fourth
  int64_t recurrent() const { return cell == Cell::lstm ? 4 * H : cell == Cell::gru ? 3 * H : H; }
  bool has_c() const { return cell == Cell::lstm; }
  bool bounded() const { return capacity > 0 && k_top > 0; }
  // The most memories that a row can hold at once.
  int64_t most_alive() const { return bounded() && capacity < M ? capacity : M; }
  bool has_keys() const { return score != Score::separable; }
  bool keyed() const { return k_top > 0 && has_keys(); }
  int64_t c_width() const { return has_c() ? H : 0; }
  // The size of W3 or w.
  int64_t weight_width() const {
    return k_top == 0 || score == Score::dot ? 0 : score == Score::additive ? D : 2 * H;
  }
  // The size of a recall's parameters other than W1 and W2: W3 or w, then the null score, then the gate (H,).
  int64_t score_width() const { return gate_place() + (gated() ? H : 0); }
  int64_t null_place() const { return weight_width(); }
  int64_t gate_place() const { return null_place() + (has_null() ? 1 : 0); }
  bool has_null() const { return k_top > 0 && null_score; }
  bool gated() const { return k_top > 0 && summary_gate; }
  bool stores_proposal() const { return stored == Stored::proposal; }
  // The width of a memory's gradient through its score: that of its key, or one number if the score has no keys.
  int64_t key_width() const { return keyed() ? D : 1; }
  // The slots that a call may need: T steps store at most this often, whichever step they begin with.
  int64_t room() const { return k_top > 0 && T > 0 ? (T - 1) / k_att + 1 : 0; }
  // The most cuts that T steps can hold.
  int64_t most_cuts() const { return k_trunc > 0 && T > 0 ? (T - 1) / k_trunc + 1 : 0; }
  // How many ranked scores decide a recall: the paper's threshold is the one after the k_top-th, and the release asks
  // whether there is one.
  int64_t ranks() const { return k_top == 0 ? 0 : k_top + (normalizer == Normalizer::threshold ? 1 : 0); }
  // How many of them M memories can fill.
  int64_t filled_ranks() const { return ranks() < M ? ranks() : M; }
  // Whether (h, c) is cut before the next step of a row that has done `steps_done` steps.
  bool cuts(int64_t steps_done) const {
    if (k_trunc == 0) return false;
    if (semantics == Semantics::release) return (steps_done + 1) % k_trunc == 0;
    return steps_done > 0 && steps_done % k_trunc == 0;
  }
  bool stores(int64_t steps_done) const { return k_top > 0 && (steps_done + 1) % k_att == 0; }
  // The slot that the next step writes, if it stores, in a row that began the call with `start` steps done and
  // `count` memories.
  int64_t slot(int64_t steps_done, int64_t start, int64_t count) const {
    return count + (steps_done + 1) / k_att - start / k_att - 1;
  }
};

// The room that a tree of tree.h takes over `slots` memories of a row. A group is split when it has more than `fan`
// members, of which each half gets at least `fewest`, so another `fewest` must come before it is split again.
struct TreeRoom {
  static constexpr int64_t fan = 16, fewest = 6;
  static constexpr int64_t header = 5, per_node = fan + 2, per_slot = 5;  // numbers
  static constexpr int64_t levels = 17;  // of memories and groups: at the limit, more than 6^16 memories

  explicit TreeRoom(int64_t slots)
      : slots(slots), nodes(slots > fan ? slots / (fewest - 1) + fan : 0),
        links(nodes > 0 ? header + nodes * per_node + slots * per_slot : 0) {}

  bool any() const { return nodes > 0; }

  int64_t slots, nodes, links;
};

// Weights in the packed form of gemm.h, each with the shape (K, N) of its B.
template <class T>
struct Packed {
  const T* input = nullptr;   // forward: W_ih^T (I, recurrent); backward: W_ih (recurrent, I), null if d_x is not wanted
  const T* hidden = nullptr;  // forward: W_hh^T (H, recurrent); backward: W_hh (recurrent, H)
  const T* memory = nullptr;  // forward: W1^T (H, D); backward: W1 (D, H)
  const T* query = nullptr;   // forward: W2^T (H, D); backward: W2 (D, H)
};

// Steps of past calls, laid out as if they were one pass. They need not follow each other, so cuts, stored slots and
// initial states are given step by step. For an ordinary pass, which the rule describes, all pointers are null.
template <class T>
struct Past {
  static constexpr int64_t slots_per_step = 2;  // one h may be two memories: as it was stored, and as replayed
  const Flag* cut = nullptr;        // (T, B): (h, c) is cut before the step
  const int32_t* stored = nullptr;  // (T, B, slots_per_step): slots that hold its h, -1 where none
  const int32_t* entry = nullptr;   // (T, B): the entering state it begins with; -1: the state after the step before
  const T *h = nullptr, *c = nullptr;  // (E, H): entering states
  int64_t entering = 0;             // E

  // Whether (h, c) is cut before the step; `steps_done` as in Problem::cuts.
  bool cuts(const Problem& p, int64_t at, int64_t steps_done) const {
    return cut != nullptr ? cut[at] != 0 : p.cuts(steps_done);
  }
  // The slot that holds the step's h, -1 if none does; `start` and `count` as in Problem::slot.
  int64_t slot(const Problem& p, int64_t at, int64_t copy, int64_t steps_done, int64_t start, int64_t count) const {
    if (stored != nullptr) return stored[at * slots_per_step + copy];
    return copy == 0 && p.stores(steps_done) ? p.slot(steps_done, start, count) : -1;
  }
  bool enters(int64_t at) const { return entry != nullptr && entry[at] >= 0; }
  const T* entering_h(const Problem& p, int64_t at) const { return h + entry[at] * p.H; }
  const T* entering_c(const Problem& p, int64_t at) const { return c + entry[at] * p.H; }
};

// The trees of search.h over kept memories. A tree that says it was brought up to another memory than the
// notes say is built anew.
template <class T>
struct KeptTrees {
  T* points = nullptr;       // (B, nodes, width), or null: there are no trees
  int32_t* links = nullptr;  // (B, links)
  int64_t* notes = nullptr;  // (B, 4): the slot behind the last in the tree, -1: none is built; `Policy` in search.h
};

// Memories that are kept from call to call: a row's are those in [first, end) of its M slots, oldest first. A call
// changes them in place; where the last slot is taken, or a gap is closed, memories move.
template <class T>
struct Kept {
  int64_t* window;    // (B, 2): first and end
  int64_t* steps;     // (B, M): the stream step each memory was stored at
  T* tops;            // (B, D + 1): no key of the row has a larger element; then the largest |W1 m| so far
  int64_t* recalled;  // (T, B, K) or null: the stream step of each recalled memory, 0 where none, out
  KeptTrees<T> trees;
};

// Rows [first_row, first_row + rows) of the batch; "local" tensors hold only these rows.
template <class T>
struct ForwardArgs {
  Problem problem;
  Packed<T> packed;
  int64_t first_row;
  const T *x, *bias;   // (T, B, I), (G,)
  int64_t inputs;      // I
  T* gates;            // (rows, T, G) local, or null; out: activated gates
  T* cells;            // (rows, T, H) local, or null; out: c of every step
  T* entering_c;       // (B, cuts, H) or null; out: c at every cut, for replay
  int64_t max_cuts;
  T* queries;          // (rows, T, D) local, or null; out: W2 h_hat, or e^(2 W2 h_hat) for the additive score
  const T *h0, *c0;    // (B, H)
  const int64_t *step0, *count0;  // (B,)
  const int64_t* lengths;  // (B,), never ascending, or null: how many of the T steps each row has; null: all
  const T* factor;     // (B, H) or null: what h is multiplied by on its way into the cell's weights; null: nothing
  const T* score;      // Problem::score_width: W3 or w, the null score, the gate; or null
  T *output, *summary; // (T, B, H)
  T* c_T;              // (B, H)
  T* memory;           // (B, M, H); in: the given memories, out: all
  T* keys;             // (rows, M, D) local; in: W1 m of the given memories, out: of all, e^(2 W1 m) if additive
  T* peak;             // (B, 2) out: a row's largest |W1 m| and |W2 h_hat|; the additive score has limits to both
  int32_t *slots, *edge;  // (T, B, K), (T, B): recalled slots, see `Recall`; the slot that set the threshold
  int32_t* behind;        // (T, B) or null: the slot behind the K best that took part in the choice, -1: none did
  T *weights, *inverse;   // (T, B, K), (T, B)
  T* received;            // (B, M) if bounded: the recall weight of each slot; in: of given memories, out: of all
  int64_t* alive;         // (B, most_alive) out, if bounded: slots not evicted, oldest first, then an unused one
  T* milestones;          // (n, B, H) or null; out: c before the steps t with t % stride == offset
  int64_t stride, offset;
  // Null: the memories are those of one pass. Else: keys are prepared in and out, of a keyless score (B, M, 1) its terms.
  const Kept<T>* kept;
};

// Where the gradients of the weights are added; memory and query (W1, W2) are null if the score has no keys.
template <class T>
struct WeightSums {
  T *input, *hidden, *memory, *query;  // (recurrent, I), (recurrent, H), (D, H), (D, H)
};

template <class T>
struct BackwardArgs {
  Problem problem;
  Past<T> past;
  Packed<T> packed;
  int64_t first_row, rows;
  bool compact;        // replay: gates, cells, queries, keys are per live pair or slot, not per step
  const T *gates, *cells, *queries, *keys;  // as the forward pass left them (local), or (N, .), (S, D)
  const T* entering_c;
  int64_t max_cuts;
  const T *h0, *c0;
  const int64_t *step0, *count0;
  const T* factor;         // as of the forward pass, but (T, B, H) for past steps
  const T* score;
  const T *output, *summary, *memory;
  const int32_t *slots, *edge;
  const T *weights, *inverse;
  const T *d_output, *d_summary, *d_c_T, *d_c;  // each may be null; d_c (T, B, H): of c after each step of a past
  const int32_t* pair;     // (T, rows): index of the live pair, -1 where no gradient arrives
  const int32_t* touched;  // (rows, M): index of the recalled slot, -1 where none
  const T* x;              // (T, B, I)
  int64_t inputs;          // I
  T* d_x;                  // (T, B, I), zeroed, or null
  WeightSums<T> sums;      // zeroed
  int64_t slots_touched;   // S
  T *d_recalled, *d_keys;  // (S, H), (S, D) or (S, 1); in: d_memory or zeros, and zeros
  T *d_h0, *d_c0;          // (B, H), zeroed
  // Zeroed, and kept by row, so that their sums over rows do not depend on the threads.
  T* d_bias;               // (B, G)
  T* d_score;              // (B, Problem::score_width)
};

template <class T>
struct ReplayArgs {
  Problem problem;
  Past<T> past;
  int64_t first_row, rows;
  T* gates;  // (N, G); in: pre-activations, out: activated
  T* cells;  // (N, H)
  T* h_hat;  // (N, H)
  const T *h0, *c0, *entering_c;
  const T* output;
  int64_t max_cuts;
  const int64_t* step0;
  const int32_t* pair;
};

// Segments of past calls to be run forward again, each in a row of what is laid out.
template <class T>
struct PastForwardArgs {
  Problem problem;
  Past<T> past;
  Packed<T> packed;     // as forward has them
  const T *x, *bias;    // (T, B, I), (G,)
  const T* factor;      // (T, B, H) or null, see ForwardArgs
  int64_t inputs;       // I
  int64_t entries;
  const int64_t *start, *column, *count;  // (entries,): the time and the row of a segment's first step, and its steps
  int64_t ranks;        // memories that a step has read at most
  int64_t own;          // the slot of the state at time 0, those of later ones behind it; -1 where none is read
  const int32_t* read;  // (T, B, ranks): slots that decided each recall, best first, -1 behind the last
  const int32_t *pair, *touched;  // (T, B), (B, M): numbers of the steps, and of the slots that any of them read
  const T* score;
  T *gates, *cells, *queries, *keys;  // (N, .), (S, D): keys of the slots before `own` in
  T *output, *summary;                // (T, B, H)
  T* memory;                          // (B, M, H): the slots before `own` in
  int32_t *slots, *edge;              // as forward leaves them, of the steps alone
  T *weights, *inverse;
  T* peak;  // (entries, 2)
};

// One instruction set's kernels for one type.
template <class T>
struct Kernels {
  int64_t (*packed_size)(int64_t k, int64_t n);
  void (*pack)(T* packed, const T* source, int64_t k, int64_t n, int64_t stride_k, int64_t stride_n);
  void (*forward)(const ForwardArgs<T>&, int64_t begin, int64_t end);    // rows of the batch
  void (*backward)(const BackwardArgs<T>&, int64_t begin, int64_t end);  // rows of the batch
  void (*replay)(const ReplayArgs<T>&, int64_t begin, int64_t end);      // rows of the batch
  void (*past_forward)(const PastForwardArgs<T>&, int64_t begin, int64_t end);  // segments
  void (*exponentiate)(T* x, int64_t size);                              // x <- e^(2x), as for keys in forward
  void (*bounds)(const Problem&, T* keys, T* query, const T* weight, T* out);  // of search.h, for tests
  // c = a . packed or c += a . packed, for lists of rows: see gemm.h.
  void (*multiply)(int64_t rows, const T* const* a, const T* packed, T* const* c, int64_t k, int64_t n, bool accumulate);
};

template <class T>
const Kernels<T>& kernels();

}  // namespace reminding
