/* The gated recurrent unit (Cho et al. 2014), reset gate after the linear map as in PyTorch, cuDNN
 * and ONNX (linear_before_reset = 1).
 *
 *     r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)     x_k = W_hx x_t + b_h
 *     n = tanh(x_n + r h_n)                             h_k = W_hh h_prev, h_n + bias_hn
 *     h = (1 - z) n + z h_prev
 *
 * Places in `saved`: n r z h_n, so that the gradients of x (n, r, z) are the first three and those
 * of h (r, z, h_n) the last three. The last one is the gradient of bias_hn as well.
 */
#ifndef RNNCORE_GRU_H
#define RNNCORE_GRU_H

#include "cell.h"

static void gru_forward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        const real *z_h = b.recurrent + row * b.recurrent_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec r = sigmoid(load(x + units + u) + load(z_h + u));
            vec z = sigmoid(load(x + 2 * units + u) + load(z_h + units + u));
            vec h_n = load(z_h + 2 * units + u);
            vec n = hyperbolic_tangent(load(x + u) + r * h_n);
            store(b.h + here, (splat(1) - z) * n + z * load(b.h_prev + here));
            store(x + u, n);
            store(x + units + u, r);
            store(x + 2 * units + u, z);
            store(x + 3 * units + u, h_n);
        }
    }
}

static void gru_backward(const Block *block)
{
    const Block b = *block;      /* a copy, which no store can change */
    const ptrdiff_t units = b.units;
    FOR_EACH_ROW(b.rows) {
        real *x = b.saved + row * b.saved_stride;
        FOR_EACH_VECTOR(units) {
            const ptrdiff_t here = row * b.state_stride + u;
            vec n = load(x + u), r = load(x + units + u);
            vec z = load(x + 2 * units + u), h_n = load(x + 3 * units + u);
            vec dh_t = load(b.dh + here);
            if (b.dy) dh_t += load(b.dy + row * b.dy_stride + u);
            /* h = (1 - z) n + z h_prev */
            vec d_z = dh_t * (load(b.h_prev + here) - n);
            vec d_n = dh_t * (splat(1) - z);
            store(b.dh + here, dh_t * z);
            /* n = tanh(x_n + r h_n) */
            vec d_xn = d_n * (splat(1) - n * n);
            vec d_r = d_xn * h_n;
            store(x + u, d_xn);
            store(x + 3 * units + u, d_xn * r);
            /* r, z = sigmoid(x + h) */
            store(x + units + u, d_r * r * (splat(1) - r));
            store(x + 2 * units + u, d_z * z * (splat(1) - z));
        }
    }
}

CELL(gru, .name = "gru", .gates = "rzn", .places = "nrz ", .states = "h",
     .x_gates = {2, 0, 1}, .h_gates = {0, 1, 2},
     .own = {{.name = "bias_hn", .starts = 3, .gradient = 3}},
     .forward = gru_forward, .backward = gru_backward)

#endif
