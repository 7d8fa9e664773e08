/* The gated recurrent unit with its reset gate before the linear map, as in the paper (Cho et al.
 * 2014), in Keras with reset_after=False and in ONNX with linear_before_reset = 0.
 *
 *     r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)     x_k = W_hx x_t + b_h,  h_k = W_hh h_prev
 *     s = r h_prev
 *     n = tanh(x_n + s_n)                               s_n = W_hh s
 *     h = (1 - z) n + z h_prev
 *
 * The gates r and z and s are the first phase.
 */
#ifndef RNNCORE_GRU_RESET_BEFORE_H
#define RNNCORE_GRU_RESET_BEFORE_H

#include "cell.h"

static void gru_reset_before_first_forward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        const real *z_h = b.recurrent + row * b.recurrent_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec r = sigmoid(load(x + u) + load(z_h + u));
            vec z = sigmoid(load(x + units + u) + load(z_h + units + u));
            store(b.h + here, r * load(b.h_prev + here));
            store(x + u, r);
            store(x + units + u, z);
        }
    }
}

static void gru_reset_before_first_backward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        FOR_EACH_VECTOR(b.units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec r = load(x + u), d_s = load(b.dy + row * b.dy_stride + u);
            /* s = r h_prev */
            vec d_r = d_s * load(b.h_prev + here);
            store(b.dh + here, load(b.dh + here) + d_s * r);
            /* r = sigmoid(x + h) */
            store(x + u, d_r * r * (splat(1) - r));
        }
    }
}

static void gru_reset_before_forward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        const real *s_n = b.recurrent + row * b.recurrent_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec z = load(x + units + u);
            vec n = hyperbolic_tangent(load(x + 2 * units + u) + load(s_n + u));
            store(b.h + here, (splat(1) - z) * n + z * load(b.h_prev + here));
            store(x + 2 * units + u, n);
        }
    }
}

static void gru_reset_before_backward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec z = load(x + units + u), n = load(x + 2 * units + u);
            vec dh_t = load(b.dh + here);
            if (b.dy) dh_t += load(b.dy + row * b.dy_stride + u);
            /* h = (1 - z) n + z h_prev */
            vec d_z = dh_t * (load(b.h_prev + here) - n);
            vec d_n = dh_t * (splat(1) - z);
            store(b.dh + here, dh_t * z);
            /* z = sigmoid(x + h); n = tanh(x_n + s_n) */
            store(x + units + u, d_z * z * (splat(1) - z));
            store(x + 2 * units + u, d_n * (splat(1) - n * n));
        }
    }
}

CELL(gru_reset_before, .name = "gru_reset_before", .gates = "rzn", .places = "rzn", .states = "h",
     .x_gates = {0, 1, 2}, .h_gates = {0, 1, 2}, .second = 1,
     .forward = gru_reset_before_forward, .backward = gru_reset_before_backward,
     .first_forward = gru_reset_before_first_forward,
     .first_backward = gru_reset_before_first_backward)

#endif
