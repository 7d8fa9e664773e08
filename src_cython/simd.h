/* One vector type and its elementary functions. Nothing else knows the instruction set.
 *
 * The build sets REAL_BITS (32 or 64) and VECTOR_BYTES (16, 32 or 64). Vectors are GCC/Clang
 * vector extensions, so `a * b + c` becomes a fused multiply-add wherever the processor has one
 * (-ffp-contract=fast) and the same source serves every instruction set.
 */
#ifndef RNNCORE_SIMD_H
#define RNNCORE_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

#if REAL_BITS == 32
typedef float real;
typedef int32_t whole;
#define SIGNIFICAND_BITS 23
#define EXPONENT_BIAS 127
#define ROUNDER 12582912.0f        /* 1.5 * 2^23: adding it rounds to the nearest integer */
#define LOG2_E 1.44269504f
#define LN2_HIGH 0.693359375f      /* few bits, so n * LN2_HIGH is exact */
#define LN2_LOW -2.12194440e-4f
#define HALF_LN2 0.34657359f
#define square_root __builtin_sqrtf
#define EXP_HIGHEST 89.0f          /* n = 128: the scale 2^n is infinity */
#define EXP_LOWEST -87.33654f      /* below it the result is not a normal number: zero */
#define TANH_ONE 9.5f              /* tanh rounds to 1 from here on */
#elif REAL_BITS == 64
typedef double real;
typedef int64_t whole;
#define SIGNIFICAND_BITS 52
#define EXPONENT_BIAS 1023
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */
#define LOG2_E 1.4426950408889634
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define HALF_LN2 (LN2_HIGH / 2)
#define HALF_LN2_LOW (LN2_LOW / 2)
#define square_root __builtin_sqrt
#define EXP_HIGHEST 709.9
#define EXP_LOWEST -708.3964185322641
#define TANH_ONE 20.0
#else
#error "REAL_BITS is 32 or 64"
#endif

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(real)))
#define MOST_LANES 16              /* for sizes of arrays */
_Static_assert(VECTOR_BYTES / sizeof(real) <= MOST_LANES, "arrays of one vector have MOST_LANES");

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef whole vec_whole __attribute__((vector_size(VECTOR_BYTES)));
/* Memory is read and written through this type: any alignment of a real, any declared type. */
typedef real vec_memory __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

INLINE vec load(const real *p) { return *(const vec_memory *)p; }
INLINE void store(real *p, vec v) { *(vec_memory *)p = v; }
INLINE vec splat(real s) { return s - (vec){0}; }   /* s - 0 keeps the sign of a zero */

/* A non-temporal store, past the caches, for what nobody reads soon: the line need not be read first. p
 * is a multiple of VECTOR_BYTES; finish_stores() before another thread may read it. */
#if defined(__AVX512F__) && VECTOR_BYTES == 64
INLINE void store_nontemporal(real *p, vec v) { _mm512_stream_si512((void *)p, (__m512i)v); }
#elif defined(__AVX__) && VECTOR_BYTES == 32
INLINE void store_nontemporal(real *p, vec v) { _mm256_stream_si256((void *)p, (__m256i)v); }
#elif defined(__SSE2__) && VECTOR_BYTES == 16
INLINE void store_nontemporal(real *p, vec v) { _mm_stream_si128((void *)p, (__m128i)v); }
#else
INLINE void store_nontemporal(real *p, vec v) { store(p, v); }
#endif

INLINE void finish_stores(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* Bring a cache line that will be written a little later. */
INLINE void prefetch_write(const real *p) { __builtin_prefetch(p, 1); }

/* Bring a cache line that will be read to the second cache. */
INLINE void prefetch(const real *p) { __builtin_prefetch(p, 0, 2); }

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vec_whole){__VA_ARGS__})
#endif

/* a0 b0 a1 b1 ...: of the first halves of a and b, and of the second. */
#if VECTOR_BYTES * 8 / REAL_BITS == 2
#define LOG2_LANES 1
#define INTERLEAVE_FIRST 0, 2
#define INTERLEAVE_SECOND 1, 3
#elif VECTOR_BYTES * 8 / REAL_BITS == 4
#define LOG2_LANES 2
#define INTERLEAVE_FIRST 0, 4, 1, 5
#define INTERLEAVE_SECOND 2, 6, 3, 7
#elif VECTOR_BYTES * 8 / REAL_BITS == 8
#define LOG2_LANES 3
#define INTERLEAVE_FIRST 0, 8, 1, 9, 2, 10, 3, 11
#define INTERLEAVE_SECOND 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES * 8 / REAL_BITS == 16
#define LOG2_LANES 4
#define INTERLEAVE_FIRST 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define INTERLEAVE_SECOND 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#error "a vector has 2, 4, 8 or 16 numbers"
#endif

/* out[j * out_stride + i] = in[i * in_stride + j] for LANES rows and columns. Row i interleaved
 * with row i + LANES / 2, and what comes of that again: after log2(LANES) rounds it is done. */
INLINE void transpose(real *out, ptrdiff_t out_stride, const real *in, ptrdiff_t in_stride)
{
    vec row[LANES], mixed[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        row[i] = load(in + i * in_stride);
#pragma GCC unroll 4
    for (int round = 0; round < LOG2_LANES; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            mixed[2 * i] = SHUFFLE(row[i], row[i + LANES / 2], INTERLEAVE_FIRST);
            mixed[2 * i + 1] = SHUFFLE(row[i], row[i + LANES / 2], INTERLEAVE_SECOND);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            row[i] = mixed[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        store(out + i * out_stride, row[i]);
}

INLINE vec choose(vec_whole mask, vec yes, vec no)
{
    return (vec)((mask & (vec_whole)yes) | (~mask & (vec_whole)no));
}

#if defined(__AVX512F__) && VECTOR_BYTES == 64 && REAL_BITS == 32
#define PICK(which, a, b) ((vec)_mm512_##which##_ps((__m512)(a), (__m512)(b)))
#elif defined(__AVX512F__) && VECTOR_BYTES == 64
#define PICK(which, a, b) ((vec)_mm512_##which##_pd((__m512d)(a), (__m512d)(b)))
#elif defined(__AVX__) && VECTOR_BYTES == 32 && REAL_BITS == 32
#define PICK(which, a, b) ((vec)_mm256_##which##_ps((__m256)(a), (__m256)(b)))
#elif defined(__AVX__) && VECTOR_BYTES == 32
#define PICK(which, a, b) ((vec)_mm256_##which##_pd((__m256d)(a), (__m256d)(b)))
#elif defined(__SSE2__) && VECTOR_BYTES == 16 && REAL_BITS == 32
#define PICK(which, a, b) ((vec)_mm_##which##_ps((__m128)(a), (__m128)(b)))
#elif defined(__SSE2__) && VECTOR_BYTES == 16
#define PICK(which, a, b) ((vec)_mm_##which##_pd((__m128d)(a), (__m128d)(b)))
#else
#define PICK_min(a, b) choose((a) < (b), a, b)
#define PICK_max(a, b) choose((a) > (b), a, b)
#define PICK(which, a, b) PICK_##which(a, b)
#endif

/* x clamped to [low, high]; a NaN stays, because it is the second of the two that are compared. */
INLINE vec clamp(vec x, real low, real high)
{
    return PICK(max, splat(low), PICK(min, splat(high), x));
}

INLINE vec maximum(vec a, vec b) { return PICK(max, a, b); }

/* `per` times x, rounded to a whole number n: how many ln2 (per = log2 e), or halves of it
 * (2 log2 e), x holds. Returned as a number, and in the low bits of *n. */
INLINE vec whole_part(vec x, real per, vec_whole *n)
{
    vec shifted = x * splat(per) + splat(ROUNDER);
    *n = (vec_whole)shifted;
    return shifted - splat(ROUNDER);
}

/* 2^n for n from 1 - EXPONENT_BIAS to EXPONENT_BIAS, infinity for EXPONENT_BIAS + 1; only the low
 * bits of n count, so it may come straight from whole_part. */
INLINE vec power_of_two(vec_whole n)
{
    return (vec)((n << SIGNIFICAND_BITS) + ((whole)EXPONENT_BIAS << SIGNIFICAND_BITS));
}

/* c[0] + c[1] r + c[2] r^2 + ..., by Horner's rule over r^2 and pairs of terms: half as long a chain
 * as term by term, and it is the chain that a step of a network waits for. */
INLINE vec polynomial(const real *c, const int terms, vec r)
{
    const int last = (terms - 1) / 2 * 2;
    vec square = r * r;
    vec sum = last + 1 < terms ? splat(c[last + 1]) * r + splat(c[last]) : splat(c[last]);
#pragma GCC unroll 8
    for (int k = last - 2; k >= 0; k -= 2)
        sum = sum * square + (splat(c[k + 1]) * r + splat(c[k]));
    return sum;
}

/* e^x = 2^n e^r with |r| <= ln2 / 2, and e^r = 1 + r + r^2 (c_0 + c_1 r + ...). In float32 the c are
 * a minimax fit, relative error 3e-9; in float64 they are Taylor's 1/2!, 1/3!, ... */
static const real EXP_TERMS[] = {
#if REAL_BITS == 32
    1, 1, 0.49999994f, 0.16666521f, 0.04166839f, 0.008368745f, 0.001381454f
#else
    1, 1, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
    1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0
#endif
};

/* e^(2r) = 1 + 2 (r + r^2 (c_0 + c_1 r + ...)), |r| <= ln2 / 4; the fit's relative error is 1.4e-8. */
static const real EXPM1_TERMS[] = {
#if REAL_BITS == 32
    0.99999994f, 0.66666174f, 0.3333376f, 0.13386476f, 0.044424053f
#else
    1, 2.0 / 3, 1.0 / 3, 2.0 / 15, 2.0 / 45, 4.0 / 315, 1.0 / 315, 2.0 / 2835, 2.0 / 14175,
    4.0 / 155925, 2.0 / 467775, 4.0 / 6081075
#endif
};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* e^x; zero where the result would be below the smallest normal number, infinity above the largest. */
INLINE vec exponential(vec x)
{
    vec_whole n;
    vec inside = clamp(x, EXP_LOWEST, EXP_HIGHEST);
    vec number = whole_part(inside, LOG2_E, &n);
    vec r = inside - number * splat(LN2_HIGH) - number * splat(LN2_LOW);
    n -= (vec_whole)splat(ROUNDER);
    /* in two factors: the largest results have a scale that is itself too large */
    vec e = polynomial(EXP_TERMS, COUNT(EXP_TERMS), r) * power_of_two(n >> 1)
            * power_of_two(n - (n >> 1));
    return (vec)(~(x < splat(EXP_LOWEST)) & (vec_whole)e);
}

/* sigmoid(x) = 1 / (1 + e^-x), to full relative precision on both sides. */
INLINE vec sigmoid(vec x)
{
    vec_whole n;
    x = clamp(x, -EXP_HIGHEST, -EXP_LOWEST);
    vec number = whole_part(x, -LOG2_E, &n);
    vec r = -x - number * splat(LN2_HIGH) - number * splat(LN2_LOW);
    return splat(1) / (splat(1) + power_of_two(n) * polynomial(EXP_TERMS, COUNT(EXP_TERMS), r));
}

/* tanh(x) = t / (1 + t) with t = (e^(2x) - 1) / 2. An error of n LN2_LOW / 2 in r counts for less
 * than the last place in float32: the larger n, the less e^(2x) matters beside 1, or 1 beside it. */
INLINE vec hyperbolic_tangent(vec x)
{
    const vec_whole sign = (vec_whole)splat((real)-0.0);
    vec_whole n;
    vec inside = clamp(x, -TANH_ONE, TANH_ONE);
    vec number = whole_part(inside, 2 * LOG2_E, &n);
    vec r = inside - number * splat(HALF_LN2);
#if REAL_BITS == 64
    r = r - number * splat(HALF_LN2_LOW);
#endif
    vec p = r + (r * r) * polynomial(EXPM1_TERMS, COUNT(EXPM1_TERMS), r);
    vec scale = power_of_two(n);
    vec t = scale * p + (scale * splat((real)0.5) - splat((real)0.5));
    return (vec)((vec_whole)(t / (splat(1) + t)) | ((vec_whole)x & sign));     /* -0 stays -0 */
}

#endif
