/* What the engine knows of a cell: its sizes and its gate mathematics, forward and backward.
 *
 * The engine does the matrix work; a cell turns pre-activations into activations, for a few rows
 * and one block of `units` hidden units at a time. A row is a sequence, or one of several blocks of
 * the same sequence; within a row, gates stand one after another, each `units` long, so unit u of
 * gate k is at [k * units + u]. `units` is a multiple of LANES, and lanes beyond the hidden size
 * hold zeros.
 */
#ifndef RNNCORE_CELL_H
#define RNNCORE_CELL_H

#include "../simd.h"

#define MOST_GATES 8

/* The step t of one block, of one row at least.
 *   h         OUT   (rows, units)          h_t; nothing else stands there
 *   c         OUT   (rows, units)          c_t; may be c_prev itself; unused without a cell state
 *   saved     INOUT (rows, saved, units)   in: W_hx x_t + b_h in the first `gates` places;
 *                                          out: what backward needs
 *   recurrent IN    (rows, gates, units)   W_hh h_prev
 *   h_prev    IN    (rows, units)          h_{t-1}
 *   c_prev    IN    (rows, units)          c_{t-1}
 */
typedef void (*cell_forward)(real *h, real *c, real *saved, const real *recurrent,
                             const real *h_prev, const real *c_prev, ptrdiff_t rows,
                             ptrdiff_t units, ptrdiff_t saved_stride, ptrdiff_t recurrent_stride,
                             ptrdiff_t state_stride);

/* The same step, backward.
 *   saved     INOUT (rows, saved, units)   in: what forward saved; out: the gradients of the
 *                                          pre-activations, those of W_hx x_t in the first `gates`
 *                                          places, those of W_hh h_prev in the last `gates`
 *   dh        INOUT (rows, units)          in: dL/dh_t from step t + 1; out: the part of dL/dh_prev
 *                                          that does not pass through W_hh
 *   dc        INOUT (rows, units)          in: dL/dc_t; out: dL/dc_prev
 *   dy        IN    (rows, units)          dL/dh_t from the layer above; NULL is zero
 *   h, c, h_prev, c_prev  IN (rows, units)
 */
typedef void (*cell_backward)(real *saved, real *dh, real *dc, const real *dy, const real *h,
                              const real *c, const real *h_prev, const real *c_prev, ptrdiff_t rows,
                              ptrdiff_t units, ptrdiff_t saved_stride, ptrdiff_t state_stride,
                              ptrdiff_t dy_stride);

typedef struct {
    const char *name;
    int gates;                   /* rows of W_hx and W_hh, in hidden sizes */
    int saved;                   /* places a unit in `saved`, at least `gates` */
    int has_c;                   /* a cell state beside h */
    int x_gates[MOST_GATES];     /* which gate of the public arrays stands in each place, for x */
    int h_gates[MOST_GATES];     /* the same for h */
    cell_forward forward;
    cell_backward backward;
} Cell;

#define FOR_EACH_ROW(rows) for (ptrdiff_t row = 0; row < (rows); row++)
#define FOR_EACH_VECTOR(units) for (ptrdiff_t u = 0; u < (units); u += LANES)

#endif
