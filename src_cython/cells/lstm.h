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

static void lstm_forward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    /* h waits for c, so it is computed a turn later, beside the gates of the next row or units */
    real *h_last = NULL;
    vec o_last = {0}, c_last = {0};
    FOR_EACH_ROW(b.rows) {
        real *z = b.saved + row * b.saved_stride;
        const real *z_h = b.recurrent + row * b.recurrent_stride;
        const ptrdiff_t state = row * b.state_stride;
        FOR_EACH_VECTOR(units) {
            vec i = sigmoid(load(z + u) + load(z_h + u));
            vec f = sigmoid(load(z + units + u) + load(z_h + units + u));
            vec g = hyperbolic_tangent(load(z + 2 * units + u) + load(z_h + 2 * units + u));
            vec o = sigmoid(load(z + 3 * units + u) + load(z_h + 3 * units + u));
            vec c_t = f * load(b.c_prev + state + u) + i * g;
            store(b.c + state + u, c_t);
            if (h_last) store(h_last, o_last * hyperbolic_tangent(c_last));
            h_last = b.h + state + u, o_last = o, c_last = c_t;
            store(z + u, i);
            store(z + units + u, f);
            store(z + 2 * units + u, g);
            store(z + 3 * units + u, o);
        }
    }
    store(h_last, o_last * hyperbolic_tangent(c_last));
}

static void lstm_backward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *z = b.saved + row * b.saved_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec i = load(z + u), f = load(z + units + u);
            vec g = load(z + 2 * units + u), o = load(z + 3 * units + u);
            vec tanh_c = hyperbolic_tangent(load(b.c + here));
            vec dh_t = load(b.dh + here);
            if (b.dy) dh_t += load(b.dy + row * b.dy_stride + u);
            /* h = o tanh(c) */
            vec d_o = dh_t * tanh_c;
            vec dc_t = load(b.dc + here) + dh_t * o * (splat(1) - tanh_c * tanh_c);
            /* c = f c_prev + i g */
            vec d_i = dc_t * g, d_g = dc_t * i;
            vec d_f = dc_t * load(b.c_prev + here);
            store(b.dc + here, dc_t * f);
            /* i, f, o = sigmoid(z); g = tanh(z) */
            store(z + u, d_i * i * (splat(1) - i));
            store(z + units + u, d_f * f * (splat(1) - f));
            store(z + 2 * units + u, d_g * (splat(1) - g * g));
            store(z + 3 * units + u, d_o * o * (splat(1) - o));
            store(b.dh + here, splat(0));
        }
    }
}

CELL(lstm, .name = "lstm", .gates = "ifgo", .places = "ifgo", .states = "hc",
     .x_gates = {0, 1, 2, 3}, .h_gates = {0, 1, 2, 3},
     .forward = lstm_forward, .backward = lstm_backward)

#endif
