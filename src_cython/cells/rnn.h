/* The simple recurrent network (Elman 1990): h_t = f(W_hx x_t + W_hh h_prev + b_h). */
#ifndef RNNCORE_RNN_H
#define RNNCORE_RNN_H

#include "cell.h"

typedef enum { TANH, RELU, SIGMOID, IDENTITY } Nonlinearity;

/* A NaN stays a NaN under relu: it is not smaller than zero. */
INLINE vec apply(const Nonlinearity f, vec a)
{
    return f == TANH ? hyperbolic_tangent(a)
           : f == RELU ? (vec)(~(a < splat(0)) & (vec_whole)a)
           : f == SIGMOID ? sigmoid(a) : a;
}

/* f'(a), from h = f(a). */
INLINE vec slope(const Nonlinearity f, vec h)
{
    return f == TANH ? splat(1) - h * h
           : f == RELU ? (vec)((h > splat(0)) & (vec_whole)splat(1))
           : f == SIGMOID ? h * (splat(1) - h) : splat(1);
}

INLINE void rnn_forward(const Nonlinearity f, real *h, real *saved, const real *recurrent,
                        ptrdiff_t rows, ptrdiff_t units, ptrdiff_t saved_stride,
                        ptrdiff_t recurrent_stride, ptrdiff_t state_stride)
{
    FOR_EACH_ROW(rows) {
        const real *z_x = saved + row * saved_stride, *z_h = recurrent + row * recurrent_stride;
        FOR_EACH_VECTOR(units)
            store(h + row * state_stride + u, apply(f, load(z_x + u) + load(z_h + u)));
    }
}

INLINE void rnn_backward(const Nonlinearity f, real *saved, real *dh, const real *dy, const real *h,
                         ptrdiff_t rows, ptrdiff_t units, ptrdiff_t saved_stride,
                         ptrdiff_t state_stride, ptrdiff_t dy_stride)
{
    FOR_EACH_ROW(rows) {
        FOR_EACH_VECTOR(units) {
            ptrdiff_t here = row * state_stride + u;
            vec dh_t = load(dh + here);
            if (dy) dh_t += load(dy + row * dy_stride + u);
            /* h = f(z) */
            store(saved + row * saved_stride + u, dh_t * slope(f, load(h + here)));
            store(dh + here, splat(0));
        }
    }
}

#define DEFINE_RNN(NAME, F)                                                                        \
    static void rnn_##NAME##_forward(real *h, real *c, real *saved, const real *recurrent,         \
                                     const real *h_prev, const real *c_prev, ptrdiff_t rows,       \
                                     ptrdiff_t units, ptrdiff_t saved_stride,                      \
                                     ptrdiff_t recurrent_stride, ptrdiff_t state_stride)           \
    {                                                                                              \
        (void)c, (void)h_prev, (void)c_prev;                                                       \
        rnn_forward(F, h, saved, recurrent, rows, units, saved_stride, recurrent_stride,           \
                    state_stride);                                                                 \
    }                                                                                              \
    static void rnn_##NAME##_backward(real *saved, real *dh, real *dc, const real *dy,             \
                                      const real *h, const real *c, const real *h_prev,            \
                                      const real *c_prev, ptrdiff_t rows, ptrdiff_t units,         \
                                      ptrdiff_t saved_stride, ptrdiff_t state_stride,              \
                                      ptrdiff_t dy_stride)                                         \
    {                                                                                              \
        (void)dc, (void)c, (void)h_prev, (void)c_prev;                                             \
        rnn_backward(F, saved, dh, dy, h, rows, units, saved_stride, state_stride, dy_stride);     \
    }                                                                                              \
    static const Cell rnn_##NAME = {.name = "rnn_" #NAME, .gates = 1, .saved = 1, .has_c = 0,      \
                                    .x_gates = {0}, .h_gates = {0},                                \
                                    .forward = rnn_##NAME##_forward,                               \
                                    .backward = rnn_##NAME##_backward};

DEFINE_RNN(tanh, TANH)
DEFINE_RNN(relu, RELU)
DEFINE_RNN(sigmoid, SIGMOID)
DEFINE_RNN(identity, IDENTITY)

#endif
