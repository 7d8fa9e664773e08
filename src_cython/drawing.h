/* Which symbol comes next: one drawn from what a model predicts, in double whatever the build's reals
 * are. rnncore/models/language_drawing.py says what the options mean and in which order they count.
 */
#ifndef RNNCORE_DRAWING_H
#define RNNCORE_DRAWING_H

#include <string.h>
#include "log_space.h"

typedef struct {
    double temperature;     /* 0: the likeliest */
    ptrdiff_t top_k;        /* at most the number of symbols */
    double top_p;           /* 1: all */
    double penalty;         /* 1: none */
} Drawing;

/* The largest t with as many p[k] >= t as `enough`, or with as large a sum of them. Numbers of 0 to 1
 * are in the order of their bits, so t is found bit by bit. n is a multiple of MOST_WIDE_LANES. */
static double least_of_enough(const double *p, ptrdiff_t n, int counts, double enough)
{
    union { double number; uint64_t bits; } t, low = {.number = 0}, high = {.number = 1};
    while (low.bits < high.bits) {
        wide sum = wide_splat(0);
        double total = 0;
        t.bits = high.bits - (high.bits - low.bits) / 2;
        for (ptrdiff_t k = 0; k < n; k += WIDE_LANES) {
            wide some = wide_load(p + k);
            wide_bits kept = some >= wide_splat(t.number);
            sum += wide_choose(kept, counts ? wide_splat(1) : some, wide_splat(0));
        }
        for (ptrdiff_t k = 0; k < WIDE_LANES; k++) total += sum[k];
        if (total >= enough) low = t;
        else high.bits = t.bits - 1;
    }
    return low.number;
}

/* Zeros all but as few of the largest as have the share of the sum; of equal ones the first stay. */
static void keep_top(double *p, ptrdiff_t n, double top_p)
{
    double total = 0, larger = 0;
    for (ptrdiff_t k = 0; k < n; k++) total += p[k];
    const double enough = top_p * total, least = least_of_enough(p, n, 0, enough);
    for (ptrdiff_t k = 0; k < n; k++) larger += p[k] > least ? p[k] : 0;
    for (ptrdiff_t k = 0; k < n; k++) {
        if (p[k] < least || (p[k] == least && larger >= enough)) p[k] = 0;
        else if (p[k] == least) larger += least;
    }
}

/* The number of a symbol: u in [0, 1) chooses among e^(x / temperature). x and spare have room for n
 * rounded up to MOST_WIDE_LANES and are overwritten; -inf never comes. `recent` are the last symbols. */
static ptrdiff_t draw(const Drawing *how, double *x, double *spare, ptrdiff_t n, double u,
                      const ptrdiff_t *recent, ptrdiff_t count)
{
    const ptrdiff_t padded = (n + MOST_WIDE_LANES - 1) / MOST_WIDE_LANES * MOST_WIDE_LANES;
    ptrdiff_t best = 0, drawn = 0;
    double total = 0, sum = 0;
    if (how->penalty != 1) {
        memcpy(spare, x, (size_t)n * sizeof(double));       /* each once, however often it stands there */
        for (ptrdiff_t k = 0; k < count; k++) {
            double one = spare[recent[k]];
            x[recent[k]] = one > 0 ? one / how->penalty : one * how->penalty;
        }
    }
    for (ptrdiff_t k = 1; k < n; k++) best = x[k] > x[best] ? k : best;
    if (how->temperature == 0) return best;
    const double highest = x[best];
    for (ptrdiff_t k = 0; k < n; k++) x[k] = (x[k] - highest) / how->temperature;
    for (ptrdiff_t k = n; k < padded; k++) x[k] = -__builtin_inf();
    for (ptrdiff_t k = 0; k < padded; k += WIDE_LANES)
        wide_store(x + k, wide_exponential(wide_load(x + k)));
    if (how->top_k < n) {
        const double least = least_of_enough(x, padded, 1, (double)how->top_k);
        for (ptrdiff_t k = 0; k < n; k++) x[k] = x[k] < least ? 0 : x[k];
    }
    if (how->top_p < 1) keep_top(x, padded, how->top_p);
    for (ptrdiff_t k = 0; k < n; k++) total += x[k];
    for (ptrdiff_t k = 0; k < n; k++) {
        if (x[k] > 0) drawn = k;
        sum += x[k];
        if (sum > u * total) break;
    }
    return drawn;
}

#endif
