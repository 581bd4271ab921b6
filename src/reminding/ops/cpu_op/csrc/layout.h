// Steps of past calls laid out in time as one pass, with integers only; and the tensors of their segments gathered in
// that layout.
//
// Of each segment the first steps are laid out, as many as credit reaches. The segments of a row lie one behind the
// other, so that all rows end together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arguments.h"
#include "indices.h"
#include "problem.h"
#include "reach.h"

namespace reminding {

// What is laid out: L segments in R rows of T steps.
struct LayoutSize {
  int64_t L, R, T;
};

// The results, where nothing is at a place: -1 in source, read, stored, entry, and no cut.
struct LayoutResults {
  int64_t *index, *row;                  // (L,): which segments; (R,): the batch row of each row
  int64_t *start, *column, *count;       // (L,): the time of a segment's first step, its row, and its steps
  int64_t* source;                       // (T, R): which of all steps of all segments
  int32_t *read, *stored;                // (T, R, ranks), (T, R, 2): slots, as PastForwardArgs and Past have them
  Flag* cut;                             // (T, R): whether the state is cut before the step
  int32_t* entry;                        // (T, R): which of the L segments begins
  int64_t* own;                          // (1,): whether any step has read a state of its own segment
};

class PastLayout {
 public:
  PastLayout(const PastSegments& segments, const int64_t* count, const int64_t* cut_at)
      : a(segments), p(segments.problem), count_(count), cut_at_(cut_at) {}

  LayoutSize size() const {
    LayoutSize found = {0, 0, 0};
    int64_t total = 0;
    for (int64_t i = 0, row = -1; i < a.segments; ++i) {
      if (count_[i] == 0) continue;
      total = a.row[i] == row ? total + count_[i] : count_[i];
      found.R += a.row[i] != row;
      found.T = std::max(found.T, total);
      row = a.row[i];
      ++found.L;
    }
    return found;
  }

  void fill(const LayoutSize& size, const LayoutResults& to) {
    std::fill_n(to.source, size.T * size.R, -1);
    std::fill_n(to.read, size.T * size.R * a.ranks, -1);
    std::fill_n(to.stored, size.T * size.R * 2, -1);
    std::fill_n(to.cut, size.T * size.R, Flag(0));
    std::fill_n(to.entry, size.T * size.R, -1);
    place(size, to);
    to.own[0] = reads_own(size, to);
    for (int64_t l = 0; l < size.L; ++l) lay_out(l, size, to);
  }

 private:
  // Where each segment lies.
  void place(const LayoutSize& size, const LayoutResults& to) const {
    int64_t l = size.L, column = size.R, row = -1, end = size.T;
    for (int64_t i = a.segments - 1; i >= 0; --i) {
      if (count_[i] == 0) continue;
      if (a.row[i] != row) {
        row = a.row[i];
        end = size.T;
        to.row[--column] = row;
      }
      end -= count_[i];
      --l;
      to.index[l] = i;
      to.start[l] = end;
      to.column[l] = column;
      to.count[l] = count_[i];
    }
  }

  bool reads_own(const LayoutSize& size, const LayoutResults& to) const {
    for (int64_t l = 0; l < size.L; ++l) {
      const int64_t i = to.index[l];
      for (int64_t s = 1; s < count_[i]; ++s)
        for (int64_t k = 0; k < a.ranks; ++k)
          if (a.reads(i, s)[k] > a.steps_done[i]) return true;
    }
    return false;
  }

  bool follows(int64_t l, const LayoutResults& to) const {
    if (l == 0 || to.column[l] != to.column[l - 1]) return false;
    const int64_t i = to.index[l], before = to.index[l - 1];
    return a.steps_done[before] + count_[before] == a.steps_done[i];
  }

  void lay_out(int64_t l, const LayoutSize& size, const LayoutResults& to) const {
    const int64_t i = to.index[l], row = a.row[i];
    to.entry[to.start[l] * size.R + to.column[l]] = static_cast<int32_t>(l);
    for (int64_t s = 0; s < count_[i]; ++s) {
      const int64_t time = to.start[l] + s, at = time * size.R + to.column[l], done = a.steps_done[i] + s;
      to.source[at] = a.base[i] + s * a.stride[i];
      to.cut[at] = p.cuts(done) || (cut_at_ != nullptr && cut_at_[row] == done + 1) || (s == 0 && !follows(l, to));
      const int64_t slot = a.stored(i, s);
      if (slot >= 0) {
        to.stored[2 * at] = static_cast<int32_t>(slot);
        if (to.own[0]) to.stored[2 * at + 1] = static_cast<int32_t>(p.M + time);
      }
      lay_out_reads(i, s, to.start[l], to.read + at * a.ranks);
    }
  }

  // Behind the slots of the memories come those of the states laid out, by their time.
  void lay_out_reads(int64_t i, int64_t s, int64_t start, int32_t* to) const {
    const int64_t* read = a.reads(i, s);
    for (int64_t k = 0; k < a.ranks; ++k) {
      if (read[k] < 0) continue;
      const int64_t own = read[k] - a.steps_done[i] - 1;
      if (own >= s) refuse("read must name steps before step ", a.steps_done[i] + s + 1, ", got ", read[k]);
      to[k] = static_cast<int32_t>(own >= 0 ? p.M + start + own : a.find(a.row[i], read[k]));
    }
  }

  const PastSegments& a;
  const Problem& p;
  const int64_t *count_, *cut_at_;
};

// The segments of single rows in runs of segments. A run is N segments of the same R rows; span (2, N, R) holds the stream
// steps before and at the end of each, -1 where a row's is not reached.
struct PastCell {
  static constexpr size_t numbers = 9;
  int64_t row, steps_done, steps, run, member, ahead, base, stride, entering;
};

class PastRun {
 public:
  PastRun(const Tensor& row, const Tensor& span, const Tensor& begins, const Tensor& sizes, int64_t steps)
      : N_(measured("span", span, 3).size(1)), R_(span.size(2)), steps_(between("steps", steps, 0, largest_size)),
        row_(data<int64_t>("row", row, {R_})), span_(data<int64_t>("span", span, {2, N_, R_})),
        begins_(data<int64_t>("begins", begins, {N_})), sizes_(data<int64_t>("sizes", sizes, {N_})) {
    for (int64_t r = 0; r < R_; ++r) expect_element("row", r, row_[r], 0, largest_size);
    for (int64_t i = 0; i < 2 * N_ * R_; ++i) expect_element("span", i, span_[i], -1, most_steps);
    for (int64_t n = 0; n < N_; ++n) {
      expect_element("begins", n, begins_[n], 0, steps_);
      expect_element("sizes", n, sizes_[n], 0, steps_ - begins_[n]);
    }
  }

  int64_t places() const { return steps_ * R_; }
  int64_t states() const { return N_ * R_; }

  // number: of the run; base, entering: how many steps, and how many states, of runs before it there are.
  void list(int64_t number, int64_t base, int64_t entering, std::vector<PastCell>& to) const {
    for (int64_t n = 0; n < N_; ++n) {
      for (int64_t r = 0; r < R_; ++r) {
        if (span_[(N_ + n) * R_ + r] < 0) continue;
        to.push_back({row_[r], span_[n * R_ + r], sizes_[n], number, r, begins_[n], base + begins_[n] * R_ + r, R_,
                      entering + n * R_ + r});
      }
    }
  }

 private:
  const int64_t N_, R_, steps_;
  const int64_t *row_, *span_, *begins_, *sizes_;
};

// Returns, for each segment of a single row that is reached, the numbers of `PastCell`, (9, P), by row, each row's in the
// order of the runs.
inline Tensor list_past(std::vector<Tensor> row, std::vector<Tensor> span, std::vector<Tensor> begins,
                        std::vector<Tensor> sizes, std::vector<int64_t> steps) {
  if (row.empty()) refuse("row must hold a tensor for each run, got none");
  for (const auto& list : {span, begins, sizes})
    if (list.size() != row.size()) refuse("span, begins and sizes must hold ", row.size(), " tensors, got ", list.size());
  expect_length("steps", steps, row.size());
  std::vector<PastCell> cells;
  int64_t base = 0, entering = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const PastRun run(row[i], span[i], begins[i], sizes[i], steps[i]);
    if (base > most_steps - run.places()) refuse("steps must be fewer in all, got ", steps[i], " in element ", i);
    run.list(static_cast<int64_t>(i), base, entering, cells);
    base += run.places();
    entering += run.states();
  }
  std::vector<const PastCell*> sorted;
  sorted.reserve(cells.size());
  for (const PastCell& cell : cells) sorted.push_back(&cell);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->row < b->row; });
  const int64_t P = static_cast<int64_t>(cells.size());
  Tensor out = torch::stable::new_empty(row[0], {static_cast<int64_t>(PastCell::numbers), P});
  int64_t* to = static_cast<int64_t*>(out.data_ptr());
  for (int64_t i = 0; i < P; ++i) {
    const PastCell& c = *sorted[static_cast<size_t>(i)];
    int64_t at = i;
    for (const int64_t number : {c.row, c.steps_done, c.steps, c.run, c.member, c.ahead, c.base, c.stride, c.entering}) {
      to[at] = number;
      at += P;
    }
  }
  return out;
}

// segments: row, steps_done, steps, base, stride. read: (., 1, ranks). memory: step, passes.
inline PastSegments read_segments(const std::vector<Tensor>& segments, const Tensor& read, const Tensor& step,
                                  const Tensor& passes, const std::vector<int64_t>& rule) {
  expect_length("segments", segments, 5);
  PastSegments a = {};
  a.problem = read_rule(rule);
  a.segments = measured("segments: row", segments[0], 1).size(0);
  a.ranks = measured("read", read, 3).size(2);
  a.rows = measured("memory: step", step, 2).size(0);
  a.problem.M = step.size(1);
  const int64_t reads = read.size(0), M = a.problem.M;
  const Shape all = {a.segments};
  a.row = data<int64_t>("segments: row", segments[0], all);
  a.steps_done = data<int64_t>("segments: steps_done", segments[1], all);
  a.steps = data<int64_t>("segments: steps", segments[2], all);
  a.base = data<int64_t>("segments: base", segments[3], all);
  a.stride = data<int64_t>("segments: stride", segments[4], all);
  a.read = data<int64_t>("read", read, {reads, 1, a.ranks});
  a.memory_step = data<int64_t>("memory: step", step, {a.rows, M});
  a.passes = data<Flag>("memory: passes", passes, {a.rows, M});
  expect_segments(a, a.rows, reads);
  expect_ascending(a.memory_step, a.rows, M);
  return a;
}

// count: how many steps of each segment are laid out. cut_at: a stream step of each batch row before which its state is
// cut besides. Returns index, row, entries (3, L), source, read, stored, cut, entry, own; see `LayoutResults`.
inline std::vector<Tensor> lay_out_past(std::vector<Tensor> segments, Tensor read, Tensor step, Tensor passes,
                                        Tensor count, std::optional<Tensor> cut_at, std::vector<int64_t> rule) {
  const PastSegments a = read_segments(segments, read, step, passes, rule);
  const int64_t* counts = data<int64_t>("count", count, {a.segments});
  for (int64_t i = 0; i < a.segments; ++i) {
    expect_element("count", i, counts[i], 0, a.steps[i]);
    if (i > 0 && a.row[i] < a.row[i - 1]) refuse("segments: row must ascend, got ", a.row[i], " in element ", i);
  }
  PastLayout layout(a, counts, data_if_given<int64_t>("cut_at", cut_at, {a.rows}));
  const auto [L, R, T] = layout.size();
  if (T * R > largest_size || a.problem.M + T > largest_size)
    refuse("count must lay out at most ", largest_size, " places, got ", T, " times ", R);
  const auto make = [&](std::initializer_list<int64_t> shape, ScalarType type) {
    return torch::stable::new_empty(count, std::vector<int64_t>(shape), type);
  };
  const auto Long = ScalarType::Long, Int = ScalarType::Int;
  std::vector<Tensor> out = {make({L}, Long),       make({R}, Long),   make({3, L}, Long),
                             make({T, R}, Long),    make({T, R, a.ranks}, Int), make({T, R, 2}, Int),
                             make({T, R}, ScalarType::Bool), make({T, R}, Int),  make({1}, Long)};
  const auto wide = [&](size_t i) { return static_cast<int64_t*>(out[i].data_ptr()); };
  const auto narrow = [&](size_t i) { return static_cast<int32_t*>(out[i].data_ptr()); };
  int64_t* entries = wide(2);
  layout.fill({L, R, T}, {wide(0), wide(1), entries, entries + L, entries + 2 * L, wide(3), narrow(4), narrow(5),
                          static_cast<Flag*>(out[6].data_ptr()), narrow(7), wide(8)});
  return out;
}

// Gathers rows of `parts` (., F) as segments are laid out: out (T, R, F), zeros where nothing is.
// part: which of the parts each segment's steps lie in, -1: in none; base, stride: the row of its first step, and how
// far apart the others lie; count: of how many of its steps there are any. entries: as `lay_out_past` returns them.
inline void gather_past(std::vector<Tensor> parts, Tensor part, Tensor base, Tensor stride, Tensor count,
                        Tensor entries, Tensor out) {
  const int64_t L = measured("part", part, 1).size(0), T = measured("out", out, 3).size(0), R = out.size(1);
  const Shape all = {L};
  const int64_t *which = data<int64_t>("part", part, all), *first = data<int64_t>("base", base, all);
  const int64_t *apart = data<int64_t>("stride", stride, all), *there = data<int64_t>("count", count, all);
  const int64_t* start = data<int64_t>("entries", entries, {3, L});
  const size_t bytes = static_cast<size_t>(out.size(2)) * out.element_size();
  const auto whole = [&](const char* name, const Tensor& x) {
    if (x.scalar_type() != out.scalar_type() || !x.is_cpu() || !x.is_contiguous() || !has_memory(x))
      refuse(name, " must be contiguous, of out's type and on the CPU, got ", description(x));
    return static_cast<char*>(x.data_ptr());
  };
  std::vector<const char*> from;
  for (const Tensor& x : parts) {
    if (measured("parts", x, 2).size(1) != out.size(2)) refuse("parts must be as wide as out, got ", description(x));
    from.push_back(whole("parts", x));
  }
  char* to = whole("out", out);
  std::vector<char> filled(static_cast<size_t>(T * R));
  for (int64_t l = 0; l < L; ++l) {
    expect_element("part", l, which[l], -1, static_cast<int64_t>(parts.size()) - 1);
    expect_element("entries: column", l, start[L + l], 0, R - 1);
    expect_element("entries: start", l, start[l], 0, T - 1);
    if (which[l] < 0) continue;
    expect_element("count", l, there[l], 0, T - start[l]);
    const int64_t rows = parts[static_cast<size_t>(which[l])].size(0);
    if (there[l] == 0) continue;
    expect_element("base", l, first[l], 0, rows - 1);
    expect_element("stride", l, apart[l], 0, there[l] > 1 ? (rows - 1 - first[l]) / (there[l] - 1) : largest_size);
    for (int64_t s = 0; s < there[l]; ++s) {
      const size_t at = static_cast<size_t>((start[l] + s) * R + start[L + l]);
      const size_t row = static_cast<size_t>(first[l] + s * apart[l]);
      std::memcpy(to + at * bytes, from[static_cast<size_t>(which[l])] + row * bytes, bytes);
      filled[at] = 1;
    }
  }
  for (size_t at = 0; at < filled.size(); ++at)
    if (!filled[at]) std::memset(to + at * bytes, 0, bytes);
}

}  // namespace reminding
