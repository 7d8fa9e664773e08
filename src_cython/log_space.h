/* Sums of probabilities that are known by their logarithms, in double whatever the build's reals are:
 * a long sequence has paths of e^-10000, which no floating number holds. An impossible event is -inf;
 * a NaN stays a NaN.
 */
#ifndef RNNCORE_LOG_SPACE_H
#define RNNCORE_LOG_SPACE_H

#include "simd.h"

typedef double wide __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t wide_bits __attribute__((vector_size(VECTOR_BYTES)));
typedef double wide_memory __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));

#define WIDE_LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(double)))
#define MOST_WIDE_LANES 8          /* rows are padded to a multiple of it */

INLINE wide wide_load(const double *p) { return *(const wide_memory *)p; }
INLINE void wide_store(double *p, wide v) { *(wide_memory *)p = v; }
INLINE wide wide_splat(double s) { return s - (wide){0}; }

INLINE wide wide_choose(wide_bits which, wide a, wide b)
{
    return (wide)((which & (wide_bits)a) | (~which & (wide_bits)b));
}

/* The larger one; a NaN in `a` or in `b` may get lost, and comes back with the differences to it. */
INLINE wide wide_maximum(wide a, wide b) { return wide_choose(a > b, a, b); }

/* c[0] + c[1] x + ... by Horner's rule. */
INLINE wide wide_polynomial(const double *c, const int terms, wide x)
{
    wide sum = wide_splat(c[terms - 1]);
#pragma GCC unroll 16
    for (int k = terms - 2; k >= 0; k--) sum = sum * x + wide_splat(c[k]);
    return sum;
}

/* e^x for x up to some hundreds; zero below the smallest normal number. e^x = 2^n e^r, |r| <= ln2 / 2,
 * and e^r by Taylor's series, whose rest is 4e-18. */
INLINE wide wide_exponential(wide x)
{
    static const double terms[] = {
        1, 1, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0
    };
    const wide rounder = wide_splat(6755399441055744.0);       /* 1.5 * 2^52 */
    wide_bits below = x < wide_splat(-708.0);
    x = wide_choose(below, wide_splat(-708.0), x);
    wide shifted = x * wide_splat(1.4426950408889634) + rounder;
    wide n = shifted - rounder;
    wide r = x - n * wide_splat(6.93147180369123816490e-01) - n * wide_splat(1.90821492927058770002e-10);
    wide scale = (wide)(((wide_bits)shifted << 52) + ((int64_t)1023 << 52));
    wide e = wide_polynomial(terms, COUNT(terms), r) * scale;
    return (wide)(~below & (wide_bits)e);
}

/* log s for s in [1, 3]: halved until s <= sqrt 2, then 2 artanh r with r = (s - 1) / (s + 1) and
 * |r| <= 0.172, whose series leaves 1e-18. */
INLINE wide wide_logarithm(wide s)
{
    static const double terms[] = {
        2, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19,
        2.0 / 21, 2.0 / 23
    };
    const wide root = wide_splat(1.4142135623730951), ln2 = wide_splat(0.69314718055994531);
    wide_bits large = s > root, larger = s > root + root;
    s *= wide_choose(larger, wide_splat(0.25), wide_choose(large, wide_splat(0.5), wide_splat(1)));
    wide whole = wide_choose(larger, ln2 + ln2, wide_choose(large, ln2, wide_splat(0)));
    wide r = (s - wide_splat(1)) / (s + wide_splat(1));
    return whole + r * wide_polynomial(terms, COUNT(terms), r * r);
}

/* out = log(e^a + e^b + e^(c + gate)); n is a multiple of MOST_WIDE_LANES, and out none of the others. */
INLINE void log_add(double *out, const double *a, const double *b, const double *c,
                    const double *gate, ptrdiff_t n)
{
    const wide lowest = wide_splat(-1e308);      /* -inf - lowest is -inf, and -inf - -inf a NaN */
    for (ptrdiff_t k = 0; k < n; k += WIDE_LANES) {
        wide x = wide_load(a + k), y = wide_load(b + k), z = wide_load(c + k) + wide_load(gate + k);
        wide most = wide_maximum(wide_maximum(x, wide_maximum(y, z)), lowest);
        wide sum = wide_exponential(x - most) + wide_exponential(y - most) + wide_exponential(z - most);
        /* all are impossible: the sum is 0, which has no logarithm here */
        wide_bits none = sum == wide_splat(0);
        wide log_sum = most + wide_logarithm(sum);
        wide_store(out + k, wide_choose(none, wide_splat(-__builtin_inf()), log_sum));
    }
}

/* out = e^(a + b - less) */
INLINE void exponential_of(double *out, const double *a, const double *b, double less,
                           ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < n; k += WIDE_LANES)
        wide_store(out + k, wide_exponential(wide_load(a + k) + wide_load(b + k) - wide_splat(less)));
}

#endif
