/* The gated recurrent unit (Cho et al. 2014), reset gate after the linear map as in PyTorch, cuDNN
 * and ONNX (linear_before_reset = 1).
 *
 *     r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)     x_k = W_hx x_t + b_h
 *     n = tanh(x_n + r h_n)                             h_k = W_hh h_prev, h_n + b_hn
 *     h = (1 - z) n + z h_prev
 *
 * Places in `saved`: n r z h_n, so that the gradients of x (n, r, z) are the first three and those
 * of h (r, z, h_n) the last three.
 */
#ifndef RNNCORE_GRU_H
#define RNNCORE_GRU_H

#include "cell.h"

static void gru_forward(real *h, real *c, real *saved, const real *recurrent, const real *h_prev,
                        const real *c_prev, ptrdiff_t rows, ptrdiff_t units,
                        ptrdiff_t saved_stride, ptrdiff_t recurrent_stride,
                         ptrdiff_t state_stride)
{
    (void)c, (void)c_prev;
    FOR_EACH_ROW(rows) {
        real *x = saved + row * saved_stride;
        const real *z_h = recurrent + row * recurrent_stride;
        FOR_EACH_VECTOR(units) {
            ptrdiff_t here = row * state_stride + u;
            vec r = sigmoid(load(x + units + u) + load(z_h + u));
            vec z = sigmoid(load(x + 2 * units + u) + load(z_h + units + u));
            vec h_n = load(z_h + 2 * units + u);
            vec n = hyperbolic_tangent(load(x + u) + r * h_n);
            store(h + here, (splat(1) - z) * n + z * load(h_prev + here));
            store(x + u, n);
            store(x + units + u, r);
            store(x + 2 * units + u, z);
            store(x + 3 * units + u, h_n);
        }
    }
}

static void gru_backward(real *saved, real *dh, real *dc, const real *dy, const real *h,
                         const real *c, const real *h_prev, const real *c_prev, ptrdiff_t rows,
                         ptrdiff_t units, ptrdiff_t saved_stride, ptrdiff_t state_stride,
                         ptrdiff_t dy_stride)
{
    (void)dc, (void)h, (void)c, (void)c_prev;
    FOR_EACH_ROW(rows) {
        real *x = saved + row * saved_stride;
        FOR_EACH_VECTOR(units) {
            ptrdiff_t here = row * state_stride + u;
            vec n = load(x + u), r = load(x + units + u);
            vec z = load(x + 2 * units + u), h_n = load(x + 3 * units + u);
            vec dh_t = load(dh + here);
            if (dy) dh_t += load(dy + row * dy_stride + u);
            /* h = (1 - z) n + z h_prev */
            vec d_z = dh_t * (load(h_prev + here) - n);
            vec d_n = dh_t * (splat(1) - z);
            store(dh + here, dh_t * z);
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

static const Cell gru = {.name = "gru", .gates = 3, .saved = 4, .has_c = 0,
                         .x_gates = {2, 0, 1}, .h_gates = {0, 1, 2},
                         .forward = gru_forward, .backward = gru_backward};

#endif
