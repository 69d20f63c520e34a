// Vectors of W floats for one instruction set: memory, exp, log1p, and sums that end in doubles.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "rows.h"

#if defined(__AVX512F__)
#define W 16
#define ISA avx512
#else
#define W 8
#define ISA avx2
#endif
#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))
#define LAMBDA __attribute__((always_inline))

namespace jaxsoftmax {
namespace ISA {

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));
typedef double vd __attribute__((vector_size(4 * W)));  // half as many

static constexpr float kInf = std::numeric_limits<float>::infinity();
static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- memory -----------------------------------------------------------------------------------

INLINE vf all(float a) { return vf{} + a; }

INLINE vf load(const float* p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
INLINE vf load(const Bf16* p) {
  vh h;
  memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
INLINE void store(float* p, vf v) { memcpy(p, &v, sizeof v); }
INLINE vh narrow(vf v) {  // to nearest, ties to even; NaN stays one
  vu u = (vu)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, nan = vu{} + 0x7fc0;
  return __builtin_convertvector((v != v) ? nan : rounded, vh);
}
INLINE void store(Bf16* p, vf v) {
  vh h = narrow(v);
  memcpy(p, &h, sizeof h);
}

// The first n, fewer than W: nothing else is touched.
#if defined(__AVX512F__)
INLINE __mmask16 first_of(int64_t n) { return (__mmask16)((1u << n) - 1); }
INLINE vf load_part(const float* p, int64_t n, float fill) {
  return (vf)_mm512_mask_loadu_ps((__m512)all(fill), first_of(n), p);
}
INLINE vf load_part(const Bf16* p, int64_t n, float fill) {
  vh h = (vh)_mm256_maskz_loadu_epi16(first_of(n), p);
  vf v = (vf)(__builtin_convertvector(h, vu) << 16);
  return (vf)_mm512_mask_blend_ps(first_of(n), (__m512)all(fill), (__m512)v);
}
INLINE void store_part(float* p, vf v, int64_t n) {
  _mm512_mask_storeu_ps(p, first_of(n), (__m512)v);
}
INLINE void store_part(Bf16* p, vf v, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_of(n), (__m256i)narrow(v));
}
#else
INLINE vi first_of(int64_t n) { return vi{0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)n; }
INLINE vf load_part(const float* p, int64_t n, float fill) {
  vf v = (vf)_mm256_maskload_ps(p, (__m256i)first_of(n));
  return first_of(n) ? v : all(fill);
}
INLINE vf load_part(const Bf16* p, int64_t n, float fill) {
  Bf16 part[W] = {};
  memcpy(part, p, n * sizeof(Bf16));
  return first_of(n) ? load(part) : all(fill);
}
INLINE void store_part(float* p, vf v, int64_t n) {
  _mm256_maskstore_ps(p, (__m256i)first_of(n), (__m256)v);
}
INLINE void store_part(Bf16* p, vf v, int64_t n) {
  vh h = narrow(v);
  memcpy(p, &h, n * sizeof(Bf16));
}
#endif

INLINE float number(float x) { return x; }
INLINE float number(Bf16 x) {
  uint32_t u = (uint32_t)x.bits << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
INLINE void put(float* p, float v) { *p = v; }
INLINE void put(Bf16* p, float v) { store_part(p, all(v), 1); }

// ---- functions --------------------------------------------------------------------------------

#if defined(__AVX512F__)
INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }  // b if one is NaN
INLINE vf ceil(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 10); }
INLINE vf nearest(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 8); }
INLINE vf times_power(vf y, vf n) { return (vf)_mm512_scalef_ps((__m512)y, (__m512)n); }
INLINE vd low(vf v) { return (vd)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)); }
INLINE vd high(vf v) { return (vd)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)); }
INLINE float largest_of(vf v) { return _mm512_reduce_max_ps((__m512)v); }
INLINE float sum_of(vf v) { return _mm512_reduce_add_ps((__m512)v); }
INLINE double sum_of(vd v) { return _mm512_reduce_add_pd((__m512d)v); }
INLINE int set_of(vi v) { return _mm512_test_epi32_mask((__m512i)v, (__m512i)v); }
#else
INLINE vf max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf ceil(vf a) { return (vf)_mm256_round_ps((__m256)a, 10); }
INLINE vf nearest(vf a) { return (vf)_mm256_round_ps((__m256)a, 8); }
INLINE vf times_power(vf y, vf n) {  // in two steps, as 2^n may be no normal number
  vi k = (vi)_mm256_cvtps_epi32((__m256)n), half = k >> 1;
  return (y * (vf)((half + 127) << 23)) * (vf)((k - half + 127) << 23);
}
INLINE vd low(vf v) { return (vd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)); }
INLINE vd high(vf v) { return (vd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1)); }
INLINE float largest_of(vf v) {
  __m128 a = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  a = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
INLINE float sum_of(vf v) {
  __m128 a = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  a = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
INLINE double sum_of(vd v) {
  __m128d a = _mm_add_pd(_mm256_castpd256_pd128((__m256d)v), _mm256_extractf128_pd((__m256d)v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)));
}
INLINE int set_of(vi v) { return _mm256_movemask_ps((__m256)v); }
#endif

// The lowest lane where a comparison holds, or -1.
INLINE int first_lane(vi v) {
  const int lanes = set_of(v);
  return lanes ? __builtin_ctz(lanes) : -1;
}

// exp(d) for d <= 88 to about 1 ulp; 0 at -inf, NaN at NaN. Cody and Waite's reduction.
INLINE vf exp(vf d) {
  d = max(all(-110.0f), d);
  vf n = nearest(d * 1.44269504088896341f);
  vf r = (d - n * 0.693359375f) + n * 2.12194440e-4f;
  vf p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return times_power((p * (r * r) + r) + 1.0f, n);
}

// log1p(r) for r >= 0, to its last bits near 0 too.
INLINE vf log1p(vf r) {
  vf u = r + 1.0f, lost = (r - (u - 1.0f)) / u;
  vi bits = (vi)u, e = (bits - 0x3f3504f3) >> 23;  // u = 2^e f, f in [sqrt(1/2), sqrt 2)
  vf f = (vf)(bits - (e << 23)) - 1.0f, power = __builtin_convertvector(e, vf), z = f * f;
  vf p = all(7.0376836292e-2f);
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  vf y = f * (z * p) - power * 2.12194440e-4f - 0.5f * z;
  return (r == r) ? ((f + y) + power * 0.693359375f) + lost : r;
}

// The shift M, as `ops/row/exponentials.py` has it; NaN for what is not finite.
static constexpr float kRoom = 60;
INLINE vf shift(vf m, float room) {
  vf zero{}, above = max(m - room, zero), twice = 2.0f * m - 65536.0f;
  vf far = (twice < m) ? twice : m, up = ceil(m);
  vf M = ((up < zero) ? up : zero) + ((far > above) ? far : above);
  return (m - m == zero) ? M : all(kNan);
}
INLINE float shift(float m, float room) { return shift(all(m), room)[0]; }

// ---- rows -------------------------------------------------------------------------------------

// Of a row, W entries from `i` on, or the `n` that are left.
template <class T>
INLINE vf part(const T* x, int64_t i, int64_t n, float fill = 0) {
  return n == W ? load(x + i) : load_part(x + i, n, fill);
}
// y[i] = f(i, n) for all vectors of a row.
template <class T, class F>
INLINE void write(T* y, int64_t size, F f) {
  int64_t i = 0;
  for (; i + 2 * W <= size; i += 2 * W) {
    vf a = f(i, (int64_t)W), b = f(i + W, (int64_t)W);
    store(y + i, a);
    store(y + i + W, b);
  }
  for (; i + W <= size; i += W) store(y + i, f(i, (int64_t)W));
  if (i < size) store_part(y + i, f(i, size - i), size - i);
}

// f(i, n) for all vectors of a row.
template <class F>
INLINE void parts(int64_t size, F f) {
  int64_t i = 0;
  for (; i + W <= size; i += W) f(i, (int64_t)W);
  if (i < size) f(i, size - i);
}

// A sum that ends in doubles.
struct Sum {
  vd a{}, b{};
  INLINE_MEMBER void add(vf v) { a += low(v), b += high(v); }
  INLINE_MEMBER void add_product(vf t, vf x) { a += low(t) * low(x), b += high(t) * high(x); }
  INLINE_MEMBER double total() const { return sum_of(a + b); }
};
static constexpr int64_t kBlock = 32 * W;  // so many are summed in float before doubles take over

// The sum of f(i, n) over all vectors of a row, which has zeros where the row has ended.
template <class F>
INLINE double sum(int64_t size, F f) {
  Sum total;
  int64_t i = 0;
  while (i + W <= size) {
    vf a{}, b{};
    int64_t end = i + kBlock < size ? i + kBlock : size;
    for (; i + 2 * W <= end; i += 2 * W) {
      a += f(i, (int64_t)W);
      b += f(i + W, (int64_t)W);
    }
    for (; i + W <= end; i += W) a += f(i, (int64_t)W);
    total.add(a + b);
  }
  if (i < size) total.add(f(i, size - i));
  return total.total();
}

// The largest entry, NaN where there is one and the largest number is infinite.
template <class T>
INLINE float largest(const T* x, int64_t size) {
  vf a = all(-kInf), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * W <= size; i += 4 * W) {
    a = max(load(x + i), a), b = max(load(x + i + W), b);
    c = max(load(x + i + 2 * W), c), d = max(load(x + i + 3 * W), d);
  }
  for (; i + W <= size; i += W) a = max(load(x + i), a);
  if (i < size) a = max(load_part(x + i, size - i, -kInf), a);
  float m = largest_of(max(max(a, b), max(c, d)));
  if (m - m != 0)
    for (i = 0; i < size; ++i)
      if (number(x[i]) != number(x[i])) return kNan;
  return m;
}

}  // namespace ISA
}  // namespace jaxsoftmax
