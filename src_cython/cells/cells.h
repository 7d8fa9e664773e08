/* The built-in cells. A new one is a file beside this, and a line here. */
#ifndef RNNCORE_CELLS_H
#define RNNCORE_CELLS_H

#include "cells/cell.h"

#define MOST_CELLS 64

static const Cell *cells[MOST_CELLS];
static int cell_count = 0;

/* Defines a cell, and has it listed when the module is loaded. */
#define CELL(NAME, ...)                                                                            \
    static const Cell NAME = {__VA_ARGS__};                                                        \
    __attribute__((constructor)) static void list_##NAME(void)                                     \
    {                                                                                              \
        if (cell_count < MOST_CELLS) cells[cell_count++] = &NAME;                                  \
    }

#include "cells/rnn.h"
#include "cells/lstm.h"
#include "cells/gru.h"
#include "cells/gru_reset_before.h"

#endif
