/* What the engine knows of a cell: one descriptor, with its gate mathematics forward and backward.
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
#define MOST_OWN 8
#define MOST_STATES 8
#define MOST_PLACES (2 * MOST_GATES + MOST_OWN)

/* The step t of one block, of one row at least. Strides are numbers from one row to the next.
 *                        forward                              backward
 *   saved      INOUT     (rows, places, units)                (rows, places, units)
 *                        in: W_hx x_t + b_h in the first      in: what forward saved; out: the
 *                        `gates` places; out: what backward   gradients of the pre-activations, of
 *                        needs                                W_hx x_t in the first `gates` places,
 *                                                             of W_hh h_prev in the last `gates` that
 *                                                             the descriptor names, of own vectors
 *                                                             where it says
 *   recurrent  IN        (rows, gates, units) W_hh h_prev     unused
 *   own        IN        (rows, own, units), the cell's own vectors, at both
 *   h, c       OUT / IN  (rows, units) h_t, c_t; c may be c_prev itself in forward
 *   h_prev, c_prev IN    (rows, units) h_{t-1}, c_{t-1}
 *   dh         INOUT     unused                               in: dL/dh_t from step t + 1; out: the
 *                                                             part of dL/dh_prev that does not pass
 *                                                             through W_hh
 *   dc         INOUT     unused                               in: dL/dc_t; out: dL/dc_prev
 *   dy         IN        unused                               dL/dh_t from the layer above; NULL: zero
 * c, c_prev and dc are those of the first state beside h. Those of the k-th behind it begin k times
 * c_apart, c_prev_apart and dc_apart further on.
 */
typedef struct {
    ptrdiff_t rows, units;
    ptrdiff_t saved_stride, recurrent_stride, state_stride, own_stride, dy_stride;
    ptrdiff_t c_apart, c_prev_apart, dc_apart;
    real *saved;
    const real *recurrent, *own;
    real *h, *c;
    const real *h_prev, *c_prev;
    real *dh, *dc;
    const real *dy;
} Block;

typedef void (*cell_function)(const Block *block);

/* A vector (units,) of the cell's own, under the name that its parameter has. */
typedef struct {
    const char *name;
    int starts;         /* 1 + the place of the gate whose recurrent sum starts from it, or 0: the
                           functions get it, as row k of `own` for the k-th of these */
    int gradient;       /* the place of its gradient in `saved` after backward; it may be one of
                           those that the gradients of gates have, or a further one */
} Own;

typedef struct {
    const char *name;
    const char *gates;           /* a letter a gate, in the public order of the rows of W_hx and W_hh */
    const char *places;          /* what `saved` holds after forward, a letter a place, at least as
                                    many as gates; a space: unnamed. Gradients of own vectors may
                                    have places behind these */
    int further;                 /* places behind these that forward uses as well */
    int elementwise;             /* not 0: a unit reads nothing of other units' h_prev. There is no
                                    W_hh, and `recurrent` holds nothing */
    const char *states;          /* a letter each: "h", "hc" with a cell state beside it, or more */
    int x_gates[MOST_GATES];     /* which public gate stands in each place, for x */
    int h_gates[MOST_GATES];     /* the same for h */
    int second;                  /* so many of the gates of h, the last ones, are of a second phase, as
                                    below; then no own vector starts a sum */
    Own own[MOST_OWN + 1];       /* ends with a NULL name */
    cell_function forward, backward;
    cell_function first_forward, first_backward;
} Cell;

/* A step of two phases. W_hh of the gates of the second phase multiplies not h_prev, but what the
 * first phase makes of it, s, which is as large. Forward: first_forward, then forward, each with the
 * `recurrent` of its own gates. Backward: backward, then first_backward. What the first phase gets:
 *                        first_forward                        first_backward
 *   h          OUT       s                                    unused
 *   h_prev     IN        what W_hh multiplies: h_{t-1}, but for noise, at both
 *   dh         INOUT     unused                               dL/dh_prev, to which is added what does
 *                                                             not pass through W_hh
 *   dy         IN        unused                               dL/ds
 */

#define FOR_EACH_ROW(rows) for (ptrdiff_t row = 0; row < (rows); row++)
#define FOR_EACH_VECTOR(units) for (ptrdiff_t u = 0; u < (units); u += LANES)

#endif
