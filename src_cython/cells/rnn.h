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

INLINE void rnn_forward(const Nonlinearity f, const Block b)
{
    FOR_EACH_ROW(b.rows) {
        const real *z_x = b.saved + row * b.saved_stride;
        const real *z_h = b.recurrent + row * b.recurrent_stride;
        FOR_EACH_VECTOR(b.units)
            store(b.h + row * b.state_stride + u, apply(f, load(z_x + u) + load(z_h + u)));
    }
}

INLINE void rnn_backward(const Nonlinearity f, const Block b)
{
    FOR_EACH_ROW(b.rows) {
        FOR_EACH_VECTOR(b.units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec dh_t = load(b.dh + here);
            if (b.dy) dh_t += load(b.dy + row * b.dy_stride + u);
            /* h = f(z) */
            store(b.saved + row * b.saved_stride + u, dh_t * slope(f, load(b.h + here)));
            store(b.dh + here, splat(0));
        }
    }
}

#define DEFINE_RNN(NAME, F)                                                                        \
    static void rnn_##NAME##_forward(const Block *block) { rnn_forward(F, *block); }               \
    static void rnn_##NAME##_backward(const Block *block) { rnn_backward(F, *block); }             \
    CELL(rnn_##NAME, .name = "rnn_" #NAME, .gates = "h", .places = " ", .states = "h",             \
         .x_gates = {0}, .h_gates = {0},                                                           \
         .forward = rnn_##NAME##_forward, .backward = rnn_##NAME##_backward)

DEFINE_RNN(tanh, TANH)
DEFINE_RNN(relu, RELU)
DEFINE_RNN(sigmoid, SIGMOID)
DEFINE_RNN(identity, IDENTITY)

#endif
