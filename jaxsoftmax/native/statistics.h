// What is known of rows, and the loops over them: short ones, such of middling length, long ones.
//
// Notation   x logits, m = max x, M the shift, e = exp(x - M), r = sum exp(x - m) - 1, p = softmax(x).
//
// With the largest class left out of r, log(sum exp(x - m)) = log1p(r) keeps its last bits however
// sure a row is, and nothing need be searched: entries that equal m are counted, not summed. A class
// has more than half of the probability exactly where x = m and r < 1. Rows of few classes are taken
// W at a time, one in each lane. So are the numbers of rows of more classes, whose entries are taken by
// the vector; in long ones numbers of a row are doubles.
#pragma once
#include <vector>

#include "simd.h"

namespace jaxsoftmax {
namespace ISA {

// Rows of so many classes are short, for what is summed and for the rest; and so many are not long.
static constexpr int64_t kShort = 24, kShortProduct = 16, kMiddle = kBlock;

// ------------------------------------------------------------------------------------------------
// W short rows at a time: t[c] has class c of all of them
// ------------------------------------------------------------------------------------------------

template <class T>
INLINE void load_rows(const T* __restrict x, int64_t classes, int64_t n, vf* t) {
  for (int64_t c = 0; c < classes; ++c) {
    float lane[W] = {};
    if (n == W) {
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) lane[i] = number(x[i * classes + c]);
    } else {
      for (int64_t i = 0; i < n; ++i) lane[i] = number(x[i * classes + c]);
    }
    t[c] = load(lane);
  }
}
template <class T>
INLINE void store_rows(T* __restrict y, int64_t classes, int64_t n, const vf* t) {
  for (int64_t c = 0; c < classes; ++c) {
    T lane[W];
    store(lane, t[c]);
    if (n == W) {
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) y[i * classes + c] = lane[i];
    } else {
      for (int64_t i = 0; i < n; ++i) y[i * classes + c] = lane[i];
    }
  }
}
INLINE vf numbers(const void* a, int64_t row, int64_t n) {
  return n == W ? load((const float*)a + row) : load_part((const float*)a + row, n, 0);
}
INLINE vi integers(const void* a, int64_t row, int64_t n) {
  vi v{};
  memcpy(&v, (const int32_t*)a + row, 4 * n);
  return v;
}
INLINE void keep(void* a, int64_t row, int64_t n, vf v) {
  n == W ? store((float*)a + row, v) : store_part((float*)a + row, v, n);
}
INLINE void keep(void* a, int64_t row, int64_t n, vi v) {
  memcpy((int32_t*)a + row, &v, 4 * n);
}

// The statistics of W rows.
struct Group {
  vf m, M, top, r;  // top = exp(m - M)
  INLINE_MEMBER vf total() const { return top * (r + 1.0f); }
  INLINE_MEMBER vf others() const { return (r < 1.0f) ? r * top : total(); }  // than the main class
};
INLINE Group group(const vf* x, int64_t classes, vf* e, float room = kRoom) {  // and e
  Group g;
  vf rest{}, ties{};
  vi nan{};
  g.m = x[0];
  for (int64_t c = 0; c < classes; ++c) g.m = max(x[c], g.m), nan |= x[c] != x[c];
  g.m = nan ? all(kNan) : g.m;
  g.M = shift(g.m, room), g.top = exp(g.m - g.M);
  for (int64_t c = 0; c < classes; ++c) {
    e[c] = exp(x[c] - g.M);
    vi tie = x[c] == g.m;
    rest += tie ? vf{} : e[c];
    ties += tie ? all(1.0f) : vf{};
  }
  g.r = rest / g.top + (ties - 1.0f);
  return g;
}

// The loop over short rows: f(row, n) for n of them, at most W.
template <class F>
INLINE void groups(int64_t first, int64_t last, F f) {
  for (int64_t i = first; i < last; i += W) f(i, last - i < W ? last - i : (int64_t)W);
}

// ------------------------------------------------------------------------------------------------
// W rows of middling length at a time, of which row i begins at x + i C
// ------------------------------------------------------------------------------------------------

INLINE int64_t whole_vectors(int64_t classes) { return (classes + W - 1) / W * W; }

template <class T>
INLINE Group group(const T* x, int64_t classes, int64_t n, float* e = nullptr, float room = kRoom) {
  float m[W] = {}, M[W], rest[W] = {}, ties[W] = {};
  for (int64_t i = 0; i < n; ++i) m[i] = largest(x + i * classes, classes);
  Group g;
  g.m = load(m), g.M = shift(g.m, room), g.top = exp(g.m - g.M);
  store(M, g.M);
  for (int64_t i = 0; i < n; ++i) {
    const T* row = x + i * classes;
    float* to = e ? e + i * whole_vectors(classes) : nullptr;
    const vf m_i = all(m[i]), M_i = all(M[i]);
    vf rest_i{}, ties_i{};
    parts(classes, [&](int64_t j, int64_t k) LAMBDA {
      vf v = part(row, j, k, -kInf), a = exp(v - M_i);
      if (to) store(to + j, a);
      vi tie = v == m_i;
      rest_i += tie ? vf{} : a;
      ties_i += tie ? all(1.0f) : vf{};
    });
    rest[i] = sum_of(rest_i), ties[i] = sum_of(ties_i);
  }
  g.r = load(rest) / g.top + (load(ties) - 1.0f);
  return g;
}
// The statistics of W rows that are not long.
template <class T>
INLINE Group group_of(const T* x, int64_t classes, int64_t n) {
  if (classes > kShort) return group(x, classes, n);
  vf t[kShort], e[kShort];
  load_rows(x, classes, n, t);
  return group(t, classes, e);
}
// The first entry that equals m, or -1.
template <class T>
INLINE int32_t index_of(const T* x, int64_t classes, float m) {
  int64_t i = 0;
  for (; i + W <= classes; i += W)
    if (int lane = first_lane(load(x + i) == m); lane >= 0) return (int32_t)(i + lane);
  for (; i < classes; ++i)
    if (number(x[i]) == m) return (int32_t)i;
  return -1;
}

// ------------------------------------------------------------------------------------------------
// One long row
// ------------------------------------------------------------------------------------------------

struct Row {
  float m, M;
  double top, r;
  INLINE_MEMBER double total() const { return top * (1.0 + r); }
};
// The statistics of a row, and e where there is an array for it.
template <class T>
INLINE Row statistics(const T* x, int64_t classes, float* e = nullptr, float room = kRoom) {
  Row row;
  row.m = largest(x, classes), row.M = shift(row.m, room);
  const vf m = all(row.m), M = all(row.M);
  vf ties{};
  double rest = sum(classes, [&](int64_t i, int64_t n) LAMBDA {
    vf v = part(x, i, n, -kInf), a = exp(v - M);
    if (e) n == W ? store(e + i, a) : store_part(e + i, a, n);
    vi tie = v == m;
    ties += tie ? all(1.0f) : vf{};
    return tie ? vf{} : a;
  });
  const double number = sum_of(low(ties)) + sum_of(high(ties));
  row.top = std::exp((double)row.m - (double)row.M);
  row.r = rest / row.top + (number - 1);
  return row;
}
// The class that has more than half of the probability, or -1.
template <class T>
INLINE int32_t main_class(const T* x, int64_t classes, float m, double r) {
  return r < 1 ? index_of(x, classes, m) : -1;
}
// Memory for the exponentials of a row, of this thread.
inline float* scratch(int64_t classes) {
  static thread_local std::vector<float> memory;
  if ((int64_t)memory.size() < classes) memory.resize(classes);
  return memory.data();
}
INLINE float* exponentials_of(float* out, int64_t) { return out; }
INLINE float* exponentials_of(Bf16*, int64_t classes) { return scratch(classes); }

template <class T>
const T* row_of(const void* a, int64_t row, int64_t classes) {
  return (const T*)a + row * classes;
}
template <class T>
T* row_of(void* a, int64_t row, int64_t classes) {
  return (T*)a + row * classes;
}

}  // namespace ISA
}  // namespace jaxsoftmax
