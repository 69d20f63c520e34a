// The kernels, for the instruction set that this file is compiled for. The notation is that of statistics.h.
#include "statistics.h"

namespace jaxsoftmax {
namespace ISA {

// x -> p
template <class T>
void softmax(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  const float room = std::floor(-std::log(std::numeric_limits<float>::min()) - std::log((double)C));
  if (C <= kShort) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShort], e[kShort];
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      vf total = group(x, C, e, room).total();
      for (int64_t c = 0; c < C; ++c) e[c] /= total;
      store_rows(row_of<T>(call.out[0], i, C), C, n, e);
    });
    return;
  }
  if (C <= kMiddle) {
    float *e = scratch(W * whole_vectors(C)), scale[W];
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      store(scale, 1.0f / group(row_of<T>(call.in[0], i, C), C, n, e, room).total());
      for (int64_t k = 0; k < n; ++k) {
        const float* e_k = e + k * whole_vectors(C);
        const vf s = all(scale[k]);
        write(row_of<T>(call.out[0], i + k, C), C,
              [&](int64_t j, int64_t) LAMBDA { return load(e_k + j) * s; });
      }
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    T* p = row_of<T>(call.out[0], i, C);
    float* e = exponentials_of(p, C);
    vf scale = all((float)(1 / statistics(row_of<T>(call.in[0], i, C), C, e, room).total()));
    write(p, C, [&](int64_t j, int64_t n) LAMBDA { return part(e, j, n) * scale; });
  }
}

// p (u - sum p u) in the place of v, where u is v less its entry at the class that has more than half of p
INLINE void product_of_rows(const vf* p, vf* v, int64_t classes) {  // W short ones
  vf at{}, mean{};
  for (int64_t c = 0; c < classes; ++c) at = (p[c] > 0.5f) ? v[c] : at;
  for (int64_t c = 0; c < classes; ++c) v[c] -= at, mean += p[c] * v[c];
  for (int64_t c = 0; c < classes; ++c) v[c] = p[c] * (v[c] - mean);
}
template <class P, class T>
INLINE void product_of_row(const P* p, const T* v, T* out, int64_t classes) {
  vf lanes{};
  vi at{};
  double mean = sum(classes, [&](int64_t j, int64_t n) LAMBDA {
    vf a = part(p, j, n), b = part(v, j, n);
    lanes = (a > 0.5f) ? b : lanes;
    at |= a > 0.5f;
    return a * b;
  });
  const vf k = all(sum_of(lanes));
  if (set_of(at))
    mean = sum(classes, [&](int64_t j, int64_t n) LAMBDA { return part(p, j, n) * (part(v, j, n) - k); });
  const vf s = all((float)mean);
  write(out, classes, [&](int64_t j, int64_t n) LAMBDA { return part(p, j, n) * ((part(v, j, n) - k) - s); });
}

// The product of p and v: of p, v; or of x, m, 1 / sum e, v
template <class T, bool kOfLogits>
INLINE void product(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  const void *in = call.in[0], *second = call.in[kOfLogits ? 3 : 1];
  if (C <= kShortProduct) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf p[kShortProduct], v[kShortProduct];
      load_rows(row_of<T>(in, i, C), C, n, p);
      load_rows(row_of<T>(second, i, C), C, n, v);
      if (kOfLogits) {
        const vf M = shift(numbers(call.in[1], i, n), kRoom), scale = numbers(call.in[2], i, n);
        for (int64_t c = 0; c < C; ++c) p[c] = exp(p[c] - M) * scale;
      }
      product_of_rows(p, v, C);
      store_rows(row_of<T>(call.out[0], i, C), C, n, v);
    });
    return;
  }
  float* p = kOfLogits ? scratch(C) : nullptr;
  for (int64_t i = first; i < last; ++i) {
    const T *x = row_of<T>(in, i, C), *v = row_of<T>(second, i, C);
    T* out = row_of<T>(call.out[0], i, C);
    if (!kOfLogits) {
      product_of_row(x, v, out, C);
      continue;
    }
    const vf M = all(shift(((const float*)call.in[1])[i], kRoom));
    const vf scale = all(((const float*)call.in[2])[i]);
    write(p, C, [&](int64_t j, int64_t n) LAMBDA { return exp(part(x, j, n) - M) * scale; });
    product_of_row(p, v, out, C);
  }
}
template <class T>
void softmax_product(const Call& call, int64_t first, int64_t last) {
  product<T, false>(call, first, last);
}
template <class T>
void probabilities_product(const Call& call, int64_t first, int64_t last) {
  product<T, true>(call, first, last);
}

// x -> l = (x - m) - log1p(r), m, the main class, the sum of the other e, of all e, log1p(r)
template <class T>
void log_softmax(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShort) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShort], e[kShort];
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      Group g = group(x, C, e);
      vi main = vi{} - 1, has = g.r < 1.0f;
      vf excess = log1p(g.r);
      for (int64_t c = 0; c < C; ++c) {
        main = (has & (x[c] == g.m)) ? vi{} + (int32_t)c : main;
        e[c] = (x[c] - g.m) - excess;
      }
      store_rows(row_of<T>(call.out[0], i, C), C, n, e);
      keep(call.out[1], i, n, g.m), keep(call.out[2], i, n, main);
      keep(call.out[3], i, n, g.others());
      keep(call.out[4], i, n, g.total()), keep(call.out[5], i, n, excess);
    });
    return;
  }
  if (C <= kMiddle) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      const T* x = row_of<T>(call.in[0], i, C);
      Group g = group(x, C, n);
      const vf excess = log1p(g.r);
      float m[W], r[W], less[W];
      store(m, g.m), store(r, g.r), store(less, excess);
      for (int64_t k = 0; k < n; ++k) {
        const T* x_k = x + k * C;
        const vf m_k = all(m[k]), less_k = all(less[k]);
        ((int32_t*)call.out[2])[i + k] = main_class(x_k, C, m[k], r[k]);
        write(row_of<T>(call.out[0], i + k, C), C,
              [&](int64_t j, int64_t w) LAMBDA { return (part(x_k, j, w) - m_k) - less_k; });
      }
      keep(call.out[1], i, n, g.m), keep(call.out[3], i, n, g.others());
      keep(call.out[4], i, n, g.total()), keep(call.out[5], i, n, excess);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    Row row = statistics(x, C);
    int32_t main = main_class(x, C, row.m, row.r);
    const vf m = all(row.m), excess = all((float)std::log1p(row.r));
    write(row_of<T>(call.out[0], i, C), C,
          [&](int64_t j, int64_t n) LAMBDA { return (part(x, j, n) - m) - excess; });
    ((float*)call.out[1])[i] = row.m, ((int32_t*)call.out[2])[i] = main;
    ((float*)call.out[3])[i] = (float)(main < 0 ? row.total() : row.top * row.r);
    ((float*)call.out[4])[i] = (float)row.total(), ((float*)call.out[5])[i] = excess[0];
  }
}

// x, m, 1 / sum e, v, the main class k, 1 - p_k -> v - p sum v, at k as (1 - p_k) v_k - p_k sum of the others.
// Where nothing is asked for, p may be NaN: of a row of -inf that the caller selects away.
template <class T>
void log_softmax_transposed(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShortProduct) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShortProduct], v[kShortProduct], at{}, rest{};
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      load_rows(row_of<T>(call.in[3], i, C), C, n, v);
      vf M = shift(numbers(call.in[1], i, n), kRoom), scale = numbers(call.in[2], i, n);
      vf others = numbers(call.in[5], i, n);
      vi k = integers(call.in[4], i, n);
      for (int64_t c = 0; c < C; ++c) {
        vi is = k == (int32_t)c;
        at = is ? v[c] : at;
        rest += is ? vf{} : v[c];
      }
      const vf nothing{}, mass = at + rest;
      vf at_main = (at == nothing ? nothing : others * at) - (rest == nothing ? nothing : (1.0f - others) * rest);
      for (int64_t c = 0; c < C; ++c) {
        vf pulled = exp(x[c] - M) * scale * mass;
        v[c] = (k == (int32_t)c) ? at_main : v[c] - (mass == nothing ? nothing : pulled);
      }
      store_rows(row_of<T>(call.out[0], i, C), C, n, v);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T *x = row_of<T>(call.in[0], i, C), *v = row_of<T>(call.in[3], i, C);
    const vf M = all(shift(((const float*)call.in[1])[i], kRoom));
    const vf scale = all(((const float*)call.in[2])[i]);
    const int32_t k = ((const int32_t*)call.in[4])[i];
    const double others = ((const float*)call.in[5])[i];
    auto entries = [&](const T* from) LAMBDA {
      return [=](int64_t j, int64_t n) LAMBDA { return part(from, j, n); };
    };
    double at = k < 0 ? 0 : number(v[k]);
    double rest = k < 0 ? sum(C, entries(v)) : sum(k, entries(v)) + sum(C - k - 1, entries(v + k + 1));
    const float mass = (float)(at + rest);
    const vf all_v = all(mass);
    T* out = row_of<T>(call.out[0], i, C);
    write(out, C, [&](int64_t j, int64_t n) LAMBDA {
      const vf kept = part(v, j, n);
      return mass == 0 ? kept : kept - exp(part(x, j, n) - M) * scale * all_v;
    });
    if (k >= 0) put(out + k, (float)((at == 0 ? 0 : others * at) - (rest == 0 ? 0 : (1 - others) * rest)));
  }
}

// x, m, 1 / sum e, v -> sum p v
template <class T>
void mean(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShort) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShort], v[kShort], dot{};
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      load_rows(row_of<T>(call.in[3], i, C), C, n, v);
      vf M = shift(numbers(call.in[1], i, n), kRoom);
      for (int64_t c = 0; c < C; ++c) dot += exp(x[c] - M) * v[c];
      keep(call.out[0], i, n, dot * numbers(call.in[2], i, n));
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T *x = row_of<T>(call.in[0], i, C), *v = row_of<T>(call.in[3], i, C);
    const vf M = all(shift(((const float*)call.in[1])[i], kRoom));
    double dot = sum(C, [&](int64_t j, int64_t n) LAMBDA {
      return exp(part(x, j, n, -kInf) - M) * part(v, j, n);
    });
    ((float*)call.out[0])[i] = (float)(dot * ((const float*)call.in[2])[i]);
  }
}

// x -> s = m + log1p(r), which is m where that is infinite; m, sum e
template <class T>
void logsumexp(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kMiddle) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      Group g = group_of(row_of<T>(call.in[0], i, C), C, n);
      vf s = (g.m - g.m == vf{}) ? g.m + log1p(g.r) : g.m;
      n == W ? store((T*)call.out[0] + i, s) : store_part((T*)call.out[0] + i, s, n);
      keep(call.out[1], i, n, g.m), keep(call.out[2], i, n, g.total());
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    Row row = statistics(row_of<T>(call.in[0], i, C), C);
    put((T*)call.out[0] + i, row.m - row.m == 0 ? (float)(row.m + std::log1p(row.r)) : row.m);
    ((float*)call.out[1])[i] = row.m, ((float*)call.out[2])[i] = (float)row.total();
  }
}

// x, m, 1 / sum e, b -> p b, 0 where b is
template <class T>
void scaled_probabilities(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShortProduct) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShortProduct], b = numbers(call.in[3], i, n), scale = numbers(call.in[2], i, n);
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      vf M = shift(numbers(call.in[1], i, n), kRoom);
      for (int64_t c = 0; c < C; ++c) x[c] = (b == 0.0f) ? vf{} : exp(x[c] - M) * scale * b;
      store_rows(row_of<T>(call.out[0], i, C), C, n, x);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    T* out = row_of<T>(call.out[0], i, C);
    const vf M = all(shift(((const float*)call.in[1])[i], kRoom));
    const vf scale = all(((const float*)call.in[2])[i]), b = all(((const float*)call.in[3])[i]);
    if (b[0] == 0) {
      memset(out, 0, C * sizeof(T));
      continue;
    }
    write(out, C, [&](int64_t j, int64_t n) LAMBDA { return exp(part(x, j, n) - M) * scale * b; });
  }
}

// x, y -> L = (m - x_y) + log1p(r), m, 1 / sum e, 1 - p_y; NaN but for m where y is no class
template <class T>
void label_loss(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kMiddle) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      const T* x = row_of<T>(call.in[0], i, C);
      const int32_t* y = (const int32_t*)call.in[1] + i;
      Group g = group_of(x, C, n);
      float label[W] = {};
      for (int64_t k = 0; k < n; ++k) label[k] = y[k] >= 0 && y[k] < C ? number(x[k * C + y[k]]) : kNan;
      vf x_y = load(label), scale = 1.0f / g.total();
      vf others = (x_y == g.m) ? g.r * g.top : g.total() - exp(x_y - g.M);
      keep(call.out[0], i, n, (g.m - x_y) + log1p(g.r)), keep(call.out[1], i, n, g.m);
      keep(call.out[2], i, n, (x_y == x_y) ? scale : x_y), keep(call.out[3], i, n, others * scale);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    const int32_t y = ((const int32_t*)call.in[1])[i];
    const double x_y = y >= 0 && y < C ? number(x[y]) : kNan;
    Row row = statistics(x, C);
    double others = x_y == row.m ? row.r : (1 + row.r) - std::exp(x_y - row.m);
    ((float*)call.out[0])[i] = (float)((row.m - x_y) + std::log1p(row.r));
    ((float*)call.out[1])[i] = row.m;
    ((float*)call.out[2])[i] = x_y == x_y ? (float)(1 / row.total()) : kNan;
    ((float*)call.out[3])[i] = (float)(others / (1 + row.r));
  }
}

// x, y, m, 1 / sum e, 1 - p_y, b -> p b, at y -(1 - p_y) b; 0 where b is
template <class T>
void label_gradient(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShortProduct) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShortProduct], b = numbers(call.in[5], i, n), scale = numbers(call.in[3], i, n);
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      vf M = shift(numbers(call.in[2], i, n), kRoom), others = numbers(call.in[4], i, n);
      vi y = integers(call.in[1], i, n);
      for (int64_t c = 0; c < C; ++c) {
        vf g = (y == (int32_t)c) ? -others : exp(x[c] - M) * scale;
        x[c] = (b == 0.0f) ? vf{} : g * b;
      }
      store_rows(row_of<T>(call.out[0], i, C), C, n, x);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    T* out = row_of<T>(call.out[0], i, C);
    const int32_t y = ((const int32_t*)call.in[1])[i];
    const vf M = all(shift(((const float*)call.in[2])[i], kRoom));
    const vf scale = all(((const float*)call.in[3])[i]), b = all(((const float*)call.in[5])[i]);
    if (b[0] == 0) {
      memset(out, 0, C * sizeof(T));
      continue;
    }
    write(out, C, [&](int64_t j, int64_t n) LAMBDA { return exp(part(x, j, n) - M) * scale * b; });
    if (y >= 0 && y < C) put(out + y, -((const float*)call.in[4])[i] * b[0]);
  }
}

// Of one row what depends on its targets: L, T, k and T p_k - t_k, from log1p(r) and r / (1 + r). Where
// log1p(r) is NaN, so is L, though all targets be 0.
template <class T, class Q>
INLINE void of_targets(const Call& call, int64_t i, const T* x, const Q* t, float m, int32_t k,
                       float excess, double others) {
  const vf all_m = all(m), all_excess = all(excess);
  Sum loss;
  double mass = sum(call.classes, [&](int64_t j, int64_t n) LAMBDA {
    vf a = part(t, j, n);
    loss.add_product(a, (a == 0.0f) ? vf{} : (all_m - part(x, j, n)) + all_excess);
    return a;
  });
  const double at = k < 0 ? 0 : number(t[k]);
  ((float*)call.out[0])[i] = excess == excess ? (float)loss.total() : excess;
  ((float*)call.out[3])[i] = (float)mass, ((int32_t*)call.out[4])[i] = k;
  ((float*)call.out[5])[i] = (float)((mass - at) - mass * others);
}

// x, t -> L = sum t (m - x + log1p(r)), m, 1 / sum e, T = sum t, the main class k, T p_k - t_k, log1p(r), 1 - p_k
template <class T, class Q>
void distribution_loss(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShort) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShort], t[kShort], e[kShort], at{}, rest{};
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      load_rows(row_of<Q>(call.in[1], i, C), C, n, t);
      Group g = group(x, C, e);
      vf excess = log1p(g.r);
      vd low_loss{}, high_loss{};  // W of them
      vi main = vi{} - 1, has = g.r < 1.0f;
      for (int64_t c = 0; c < C; ++c) {
        vi is = has & (x[c] == g.m);
        main = is ? vi{} + (int32_t)c : main;
        at = is ? t[c] : at;
        rest += is ? vf{} : t[c];
        vf term = (t[c] == 0.0f) ? vf{} : (g.m - x[c]) + excess;
        low_loss += low(t[c]) * low(term), high_loss += high(t[c]) * high(term);
      }
      vf loss;
      for (int j = 0; j < W / 2; ++j) loss[j] = (float)low_loss[j], loss[W / 2 + j] = (float)high_loss[j];
      vf mass = at + rest, others = g.r / (g.r + 1.0f);
      keep(call.out[0], i, n, (excess == excess) ? loss : excess), keep(call.out[1], i, n, g.m);
      keep(call.out[2], i, n, 1.0f / g.total()), keep(call.out[3], i, n, mass);
      keep(call.out[4], i, n, main), keep(call.out[5], i, n, rest - mass * others);
      keep(call.out[6], i, n, excess), keep(call.out[7], i, n, has ? others : all(1.0f));
    });
    return;
  }
  if (C <= kMiddle) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      const T* x = row_of<T>(call.in[0], i, C);
      Group g = group(x, C, n);
      const vf excess = log1p(g.r), others = g.others() / g.total();
      float m[W], r[W], add[W], rest[W];
      store(m, g.m), store(r, g.r), store(add, excess), store(rest, g.r / (g.r + 1.0f));
      for (int64_t k = 0; k < n; ++k)
        of_targets(call, i + k, x + k * C, row_of<Q>(call.in[1], i + k, C), m[k],
                   main_class(x + k * C, C, m[k], r[k]), add[k], rest[k]);
      keep(call.out[1], i, n, g.m), keep(call.out[2], i, n, 1.0f / g.total());
      keep(call.out[6], i, n, excess), keep(call.out[7], i, n, others);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    Row row = statistics(x, C);
    const int32_t k = main_class(x, C, row.m, row.r);
    const double excess = std::log1p(row.r), others = row.r / (1 + row.r);
    of_targets(call, i, x, row_of<Q>(call.in[1], i, C), row.m, k, (float)excess, others);
    ((float*)call.out[1])[i] = row.m, ((float*)call.out[2])[i] = (float)(1 / row.total());
    ((float*)call.out[6])[i] = (float)excess, ((float*)call.out[7])[i] = k < 0 ? 1 : (float)others;
  }
}

// x, t, m, 1 / sum e, T, k, T p_k - t_k, b -> (T p - t) b, 0 where b is
template <class T, class Q>
void distribution_gradient(const Call& call, int64_t first, int64_t last) {
  const int64_t C = call.classes;
  if (C <= kShortProduct) {
    groups(first, last, [&](int64_t i, int64_t n) LAMBDA {
      vf x[kShortProduct], t[kShortProduct], b = numbers(call.in[7], i, n), scale = numbers(call.in[3], i, n);
      load_rows(row_of<T>(call.in[0], i, C), C, n, x);
      load_rows(row_of<Q>(call.in[1], i, C), C, n, t);
      vf M = shift(numbers(call.in[2], i, n), kRoom), mass = numbers(call.in[4], i, n);
      vf at_main = numbers(call.in[6], i, n);
      vi k = integers(call.in[5], i, n);
      for (int64_t c = 0; c < C; ++c) {
        vf g = (k == (int32_t)c) ? at_main : exp(x[c] - M) * scale * mass - t[c];
        x[c] = (b == 0.0f) ? vf{} : g * b;
      }
      store_rows(row_of<T>(call.out[0], i, C), C, n, x);
    });
    return;
  }
  for (int64_t i = first; i < last; ++i) {
    const T* x = row_of<T>(call.in[0], i, C);
    const Q* t = row_of<Q>(call.in[1], i, C);
    T* out = row_of<T>(call.out[0], i, C);
    const vf M = all(shift(((const float*)call.in[2])[i], kRoom));
    const vf scale = all(((const float*)call.in[3])[i]), mass = all(((const float*)call.in[4])[i]);
    const int32_t k = ((const int32_t*)call.in[5])[i];
    const vf b = all(((const float*)call.in[7])[i]);
    if (b[0] == 0) {
      memset(out, 0, C * sizeof(T));
      continue;
    }
    write(out, C, [&](int64_t j, int64_t n) LAMBDA {
      return (exp(part(x, j, n) - M) * scale * mass - part(t, j, n)) * b;
    });
    if (k >= 0) put(out + k, ((const float*)call.in[6])[i] * b[0]);
  }
}

#define OF_LOGITS(name) {name<float>, name<Bf16>, nullptr}
#define OF_TARGETS(name) {name<float, float>, name<Bf16, Bf16>, name<Bf16, float>}
const Table table = {
    OF_LOGITS(softmax),
    OF_LOGITS(softmax_product),
    OF_LOGITS(probabilities_product),
    OF_LOGITS(log_softmax),
    OF_LOGITS(log_softmax_transposed),
    OF_LOGITS(mean),
    OF_LOGITS(logsumexp),
    OF_LOGITS(scaled_probabilities),
    OF_LOGITS(label_loss),
    OF_LOGITS(label_gradient),
    OF_TARGETS(distribution_loss),
    OF_TARGETS(distribution_gradient),
};

}  // namespace ISA
}  // namespace jaxsoftmax
