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
#define square_root __builtin_sqrt
#define EXP_HIGHEST 709.9
#define EXP_LOWEST -708.3964185322641
#define TANH_ONE 20.0
#else
#error "REAL_BITS is 32 or 64"
#endif

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(real)))

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef whole vec_whole __attribute__((vector_size(VECTOR_BYTES)));
/* Memory is read and written through this type: any alignment of a real, any declared type. */
typedef real vec_memory __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

INLINE vec load(const real *p) { return *(const vec_memory *)p; }
INLINE void store(real *p, vec v) { *(vec_memory *)p = v; }
INLINE vec splat(real s) { return s - (vec){0}; }   /* s - 0 keeps the sign of a zero */

INLINE vec choose(vec_whole mask, vec yes, vec no)
{
    return (vec)((mask & (vec_whole)yes) | (~mask & (vec_whole)no));
}

/* The smaller of limit and x; a NaN in x stays. */
INLINE vec at_most(vec x, real limit)
{
#if defined(__AVX512F__) && VECTOR_BYTES == 64 && REAL_BITS == 32
    return (vec)_mm512_min_ps((__m512)splat(limit), (__m512)x);
#elif defined(__AVX512F__) && VECTOR_BYTES == 64
    return (vec)_mm512_min_pd((__m512d)splat(limit), (__m512d)x);
#elif defined(__AVX__) && VECTOR_BYTES == 32 && REAL_BITS == 32
    return (vec)_mm256_min_ps((__m256)splat(limit), (__m256)x);
#elif defined(__AVX__) && VECTOR_BYTES == 32
    return (vec)_mm256_min_pd((__m256d)splat(limit), (__m256d)x);
#elif defined(__SSE2__) && VECTOR_BYTES == 16 && REAL_BITS == 32
    return (vec)_mm_min_ps((__m128)splat(limit), (__m128)x);
#elif defined(__SSE2__) && VECTOR_BYTES == 16
    return (vec)_mm_min_pd((__m128d)splat(limit), (__m128d)x);
#else
    return choose(x > splat(limit), splat(limit), x);
#endif
}

INLINE vec at_least(vec x, real limit) { return -at_most(-x, -limit); }

/* 2^n for n from 1 - EXPONENT_BIAS to EXPONENT_BIAS; infinity for EXPONENT_BIAS + 1. */
INLINE vec power_of_two(vec_whole n) { return (vec)((n + EXPONENT_BIAS) << SIGNIFICAND_BITS); }

/* x = n ln2 + r with |r| <= ln2 / 2. Returns e^r - 1 to full relative precision, sets *n.
 * e^r - 1 = r + r^2/2! + r^3/3! + ...: the first term left out is below half a unit in the last
 * place. x must lie within [EXP_LOWEST, EXP_HIGHEST]; NaN passes through. */
INLINE vec expm1_reduced(vec x, vec_whole *n)
{
    vec shifted = x * splat(LOG2_E) + splat(ROUNDER);
    vec rounded = shifted - splat(ROUNDER);
    vec r = x - rounded * splat(LN2_HIGH);
    r = r - rounded * splat(LN2_LOW);
    *n = (vec_whole)shifted - (vec_whole)splat(ROUNDER);
#if REAL_BITS == 32
    vec q = splat(1.0f / 5040);
#else
    vec q = splat(1.0 / 6227020800.0);
    q = q * r + splat(1.0 / 479001600);
    q = q * r + splat(1.0 / 39916800);
    q = q * r + splat(1.0 / 3628800);
    q = q * r + splat(1.0 / 362880);
    q = q * r + splat(1.0 / 40320);
    q = q * r + splat(1.0 / 5040);
#endif
    q = q * r + splat((real)(1.0 / 720));
    q = q * r + splat((real)(1.0 / 120));
    q = q * r + splat((real)(1.0 / 24));
    q = q * r + splat((real)(1.0 / 6));
    q = q * r + splat((real)0.5);
    return r + (r * r) * q;
}

/* e^x; zero where the result would be below the smallest normal number, infinity above the largest. */
INLINE vec exponential(vec x)
{
    vec_whole n;
    vec p = expm1_reduced(at_least(at_most(x, EXP_HIGHEST), EXP_LOWEST), &n);
    /* in two factors: the largest results have a scale that is itself too large */
    vec e = (splat(1) + p) * power_of_two(n >> 1) * power_of_two(n - (n >> 1));
    return (vec)(~(x < splat(EXP_LOWEST)) & (vec_whole)e);
}

/* sigmoid(x) = 1 / (1 + e^-x), to full relative precision on both sides. */
INLINE vec sigmoid(vec x)
{
    vec_whole n;
    vec p = expm1_reduced(at_least(at_most(-x, EXP_HIGHEST), EXP_LOWEST), &n);
    return splat(1) / (splat(1) + power_of_two(n) * (splat(1) + p));
}

/* tanh(x) = -t / (2 + t) with t = e^(-2|x|) - 1, the sign of x put back. */
INLINE vec hyperbolic_tangent(vec x)
{
    const vec_whole sign = (vec_whole)splat((real)-0.0);
    vec magnitude = (vec)((vec_whole)x & ~sign);
    vec_whole n;
    vec p = expm1_reduced(splat(-2) * at_most(magnitude, TANH_ONE), &n);
    vec scale = power_of_two(n);
    vec t = scale * p + (scale - splat(1));
    vec y = t / (splat(2) + t);
    return (vec)(((vec_whole)y & ~sign) | ((vec_whole)x & sign));
}

/* Denormal numbers cost a hundred cycles each and carry nothing a network needs: kernels flush
 * them to zero, and give the caller's floating-point mode back when they are done. */
INLINE unsigned flush_denormals(void)
{
#if defined(__SSE2__)
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);     /* flush results to zero, read denormals as zero */
    return mode;
#else
    return 0;
#endif
}

INLINE void restore_denormals(unsigned mode)
{
#if defined(__SSE2__)
    /* status flags that the kernel raised stay raised */
    _mm_setcsr((mode & ~0x3fu) | (_mm_getcsr() & 0x3f) | (mode & 0x3f));
#else
    (void)mode;
#endif
}

#endif
