/* Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).
 *
 *     i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)      z = W_hx x_t + b_h + W_hh h_prev
 *     g = tanh(z_g)
 *     c = f c_prev + i g
 *     h = o tanh(c)
 */
#ifndef RNNCORE_LSTM_H
#define RNNCORE_LSTM_H

#include "cell.h"

static void lstm_forward(real *h, real *c, real *saved, const real *recurrent, const real *h_prev,
                         const real *c_prev, ptrdiff_t rows, ptrdiff_t units,
                         ptrdiff_t saved_stride, ptrdiff_t recurrent_stride,
                         ptrdiff_t state_stride)
{
    (void)h_prev;
    /* h waits for c, so it is computed a turn later, beside the gates of the next row or units */
    real *h_last = NULL;
    vec o_last = {0}, c_last = {0};
    FOR_EACH_ROW(rows) {
        real *z = saved + row * saved_stride;
        const real *z_h = recurrent + row * recurrent_stride;
        FOR_EACH_VECTOR(units) {
            ptrdiff_t here = row * state_stride + u;
            vec i = sigmoid(load(z + u) + load(z_h + u));
            vec f = sigmoid(load(z + units + u) + load(z_h + units + u));
            vec g = hyperbolic_tangent(load(z + 2 * units + u) + load(z_h + 2 * units + u));
            vec o = sigmoid(load(z + 3 * units + u) + load(z_h + 3 * units + u));
            vec c_t = f * load(c_prev + here) + i * g;
            store(c + here, c_t);
            if (h_last) store(h_last, o_last * hyperbolic_tangent(c_last));
            h_last = h + here, o_last = o, c_last = c_t;
            store(z + u, i);
            store(z + units + u, f);
            store(z + 2 * units + u, g);
            store(z + 3 * units + u, o);
        }
    }
    store(h_last, o_last * hyperbolic_tangent(c_last));
}

static void lstm_backward(real *saved, real *dh, real *dc, const real *dy, const real *h,
                          const real *c, const real *h_prev, const real *c_prev, ptrdiff_t rows,
                          ptrdiff_t units, ptrdiff_t saved_stride, ptrdiff_t state_stride,
                          ptrdiff_t dy_stride)
{
    (void)h, (void)h_prev;
    FOR_EACH_ROW(rows) {
        real *z = saved + row * saved_stride;
        FOR_EACH_VECTOR(units) {
            ptrdiff_t here = row * state_stride + u;
            vec i = load(z + u), f = load(z + units + u);
            vec g = load(z + 2 * units + u), o = load(z + 3 * units + u);
            vec tanh_c = hyperbolic_tangent(load(c + here));
            vec dh_t = load(dh + here);
            if (dy) dh_t += load(dy + row * dy_stride + u);
            /* h = o tanh(c) */
            vec d_o = dh_t * tanh_c;
            vec dc_t = load(dc + here) + dh_t * o * (splat(1) - tanh_c * tanh_c);
            /* c = f c_prev + i g */
            vec d_i = dc_t * g, d_g = dc_t * i;
            vec d_f = dc_t * load(c_prev + here);
            store(dc + here, dc_t * f);
            /* i, f, o = sigmoid(z); g = tanh(z) */
            store(z + u, d_i * i * (splat(1) - i));
            store(z + units + u, d_f * f * (splat(1) - f));
            store(z + 2 * units + u, d_g * (splat(1) - g * g));
            store(z + 3 * units + u, d_o * o * (splat(1) - o));
            store(dh + here, splat(0));
        }
    }
}

static const Cell lstm = {.name = "lstm", .gates = 4, .saved = 4, .has_c = 1,
                          .x_gates = {0, 1, 2, 3}, .h_gates = {0, 1, 2, 3},
                          .forward = lstm_forward, .backward = lstm_backward};

#endif
