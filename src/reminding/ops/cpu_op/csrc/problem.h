// What a call of the operator is: sizes, rules and where its tensors lie. No code, no instruction set.
//
// Shapes: B batch, T time, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row) pairs,
// S slots that any live step recalls.
#pragma once

#include <cstdint>

namespace reminding {

enum class Cell : int64_t { lstm = 0, gru = 1, rnn = 2 };
enum class Score : int64_t { additive = 0, dot = 1, separable = 2 };
constexpr Score last_score = Score::separable;
enum class Normalizer : int64_t { threshold = 0, softmax = 1, softmax1 = 2 };
enum class Semantics : int64_t { paper = 0, release = 1 };
enum class Evict : int64_t { fifo = 0, least_recalled = 1 };

// A truth value of a tensor, 0 for false. Not bool: a caller's byte may be neither 0 nor 1, and C++ may not read such a
// bool.
using Flag = uint8_t;

// What the backward pass divides by, per step and row; two values are marks.
constexpr int no_recall = 0;     // nothing weighed: no gradient
constexpr int raw_weights = -1;  // the release's unnormalised scores

struct Problem {
  int64_t T, B, H, D, M;  // M: room for memories, those given and those a call can add
  Cell cell;
  Score score;
  Normalizer normalizer;
  Semantics semantics;
  int64_t k_top, k_att, k_trunc;  // k_trunc 0: never cut
  bool backtrack;
  int64_t capacity;  // memories a row may hold; 0: no limit
  Evict evict;       // which goes when it is full
  double recall_scale;  // what the normalised weights are multiplied by
  double forget_scale;  // what an LSTM's forget gate is multiplied by

  int64_t gates() const { return cell == Cell::rnn ? H : 4 * H; }  // the GRU keeps W_hn h + b_hn as its fourth
  int64_t recurrent() const { return cell == Cell::lstm ? 4 * H : cell == Cell::gru ? 3 * H : H; }
  bool has_c() const { return cell == Cell::lstm; }
  bool bounded() const { return capacity > 0 && k_top > 0; }
  // Memories that a row can hold at once.
  int64_t most_alive() const { return bounded() && capacity < M ? capacity : M; }
  bool has_keys() const { return score != Score::separable; }
  bool keyed() const { return k_top > 0 && has_keys(); }
  int64_t c_width() const { return has_c() ? H : 0; }
  // W3's, or w's.
  int64_t score_width() const {
    return k_top == 0 || score == Score::dot ? 0 : score == Score::additive ? D : 2 * H;
  }
  // Of the gradient of a key, or of the separable score's memory half.
  int64_t key_width() const { return keyed() ? D : 1; }
  // Slots for what a call may store: T steps store this often at most, whichever step they begin with.
  int64_t room() const { return k_top > 0 && T > 0 ? (T - 1) / k_att + 1 : 0; }
  // The most cuts that T steps can hold.
  int64_t most_cuts() const { return k_trunc > 0 && T > 0 ? (T - 1) / k_trunc + 1 : 0; }
  // Ranked scores a step needs: the paper's threshold is the one after the k_top-th.
  int64_t ranks() const {
    return k_top == 0 ? 0 : k_top + (normalizer == Normalizer::threshold && semantics == Semantics::paper ? 1 : 0);
  }
  // Those that can be filled.
  int64_t filled_ranks() const { return ranks() < M ? ranks() : M; }
  // `taken` steps lie behind the row; is (h, c) cut before the next one?
  bool cuts(int64_t taken) const {
    if (k_trunc == 0) return false;
    return semantics == Semantics::release ? (taken + 1) % k_trunc == 0 : taken > 0 && taken % k_trunc == 0;
  }
  bool stores(int64_t taken) const { return k_top > 0 && (taken + 1) % k_att == 0; }
  // The slot that the step after `taken` writes, if it stores, in a row that came with `count` memories and `start`
  // steps behind it.
  int64_t slot(int64_t taken, int64_t start, int64_t count) const {
    return count + (taken + 1) / k_att - start / k_att - 1;
  }
};

// Weights in the packed form of gemm.h, each with the shape (K, N) of the B it stands for.
template <class T>
struct Packed {
  const T* input = nullptr;   // forward: W_ih^T (I, recurrent); backward: W_ih (recurrent, I), null if d_x is not wanted
  const T* hidden = nullptr;  // forward: W_hh^T (H, recurrent); backward: W_hh (recurrent, H)
  const T* memory = nullptr;  // forward: W1^T (H, D); backward: W1 (D, H)
  const T* query = nullptr;   // forward: W2^T (H, D); backward: W2 (D, H)
};

// Steps of past calls, laid out as if they were one pass: what the rule says of a whole pass is told step by step.
// All null for a whole pass.
template <class T>
struct Past {
  static constexpr int64_t ways = 2;  // a state may be two memories: as it was stored, and as its segment has it again
  const Flag* cut = nullptr;        // (T, B): (h, c) is cut before the step
  const int32_t* stored = nullptr;  // (T, B, ways): slots that took its h, -1 where none
  const int32_t* entry = nullptr;   // (T, B): the entering state it begins with, -1: that after the step before it
  const T *h = nullptr, *c = nullptr;  // (E, H): entering states
  int64_t entering = 0;             // E

  // Whether (h, c) is cut before the step of a row that has `taken` steps behind it.
  bool cuts(const Problem& p, int64_t at, int64_t taken) const { return cut != nullptr ? cut[at] != 0 : p.cuts(taken); }
  // The slot that took the step's h, -1 if none did; `start` and `count` as Problem::slot has them.
  int64_t slot(const Problem& p, int64_t at, int64_t way, int64_t taken, int64_t start, int64_t count) const {
    if (stored != nullptr) return stored[at * ways + way];
    return way == 0 && p.stores(taken) ? p.slot(taken, start, count) : -1;
  }
  bool enters(int64_t at) const { return entry != nullptr && entry[at] >= 0; }
  const T* entering_h(const Problem& p, int64_t at) const { return h + entry[at] * p.H; }
  const T* entering_c(const Problem& p, int64_t at) const { return c + entry[at] * p.H; }
};

// Rows [first_row, first_row + rows) of the batch; "local" tensors hold only these rows.
template <class T>
struct ForwardArgs {
  Problem problem;
  Packed<T> packed;
  int64_t first_row;
  const T *x, *bias;   // (T, B, I), (G,)
  int64_t inputs;      // I
  T* gates;            // (rows, T, G) local or null: activated gates out
  T* cells;            // (rows, T, H) local or null: c of every step
  T* entering_c;       // (B, cuts, H) or null: c at every cut, for replay
  int64_t max_cuts;
  T* queries;          // (rows, T, D) local or null: W2 h_hat, or e^(2 W2 h_hat) for the additive score
  const T *h0, *c0;    // (B, H)
  const int64_t *step0, *count0;  // (B,)
  const T* score;      // (D,) W3, (2H,) w, or null
  T *output, *summary; // (T, B, H)
  T* c_T;              // (B, H)
  T* memory;           // (B, M, H): the given memories in, all out
  T* keys;             // (rows, M, D) local: W1 m of the given memories in; e^(2 W1 m) for the additive score out
  T* peak;             // (B, 2): the largest |W1 m| and |W2 h_hat| of a row; the additive score is exact within limits
  int32_t *slots, *edge;  // (T, B, K), (T, B): recalled slots; the slot that set the threshold
  T *weights, *inverse;   // (T, B, K), (T, B)
  T* received;            // (B, M), read if bounded: recall weight each slot has received, of given memories in, of all out
  int64_t* alive;         // (B, most_alive), written if bounded: slots not evicted, oldest first, then an unused one
  T* milestones;          // (n, B, H) or null: c entering the steps t with t % stride == offset
  int64_t stride, offset;
};

// Where the weights' gradients are added up; memory and query (W1, W2) are read where the score has keys.
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
  T *d_recalled, *d_keys;  // (S, H), (S, D) or (S, 1): zeroed or as d_memory in
  T *d_h0, *d_c0;          // (B, H), zeroed
  T* d_bias;               // (B, G), zeroed: as d_score
  T* d_score;              // (B, D) or (B, 2H), zeroed: per row, so that the sum does not depend on the threads
};

template <class T>
struct ReplayArgs {
  Problem problem;
  Past<T> past;
  int64_t first_row, rows;
  T* gates;  // (N, G): before activation in, activated out
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
  Packed<T> packed;     // as forward has them; of the input there is none
  int64_t entries;
  const int64_t *start, *column, *count;  // (entries,): the time and the row of a segment's first step, and its steps
  int64_t ranks;        // memories that a step has read at most
  int64_t own;          // the slot of the state at time 0, those of later ones behind it; -1 where none is read
  const int32_t* read;  // (T, B, ranks): slots that decided each recall, best first, -1 behind the last
  const int32_t *pair, *touched;  // (T, B), (B, M): numbers of the steps, and of the slots that any of them read
  const T* score;
  T *gates, *cells, *queries, *keys;  // (N, .), (S, D): of gates the input's part in; keys of the slots before `own` in
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
  void (*exponentiate)(T* x, int64_t size);                              // e^(2x), as forward keeps keys
};

template <class T>
const Kernels<T>& kernels();

}  // namespace reminding
