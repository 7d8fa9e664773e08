# Python's handle of a cell: a built-in one, or one whose functions are somebody else's.

block_fields = (
    "rows", "units", "saved_stride", "recurrent_stride", "state_stride", "own_stride", "dy_stride",
    "c_apart", "c_prev_apart", "dc_apart", "saved", "recurrent", "own", "h", "c", "h_prev", "c_prev", "dh", "dc", "dy")    # in the order of Block

if sizeof(Block) != len(block_fields) * sizeof(void*):
    raise ImportError("block_fields does not name the fields of Block")

cdef class Cell:
    """What the engine knows of a cell; `cell` returns a built-in one.

    Attributes
    ----------
    name
    gates
        A letter a gate, in the public order of the rows of W_hx and W_hh.
    places
        What `saved` holds after forward, a letter a place; a space where it has no name.
    states
        A letter a state, h first: "h", "hc" with a cell state, or more.
    own
        Names of the vectors (units,) of the cell's own.
    starts
        For each of these the public gate whose recurrent sum starts from it, or -1: it is handed to
        the cell's functions.
    """

    cdef const CellDescription* c
    cdef readonly str name
    cdef readonly str gates
    cdef readonly str places
    cdef readonly str states
    cdef readonly tuple own
    cdef readonly tuple starts
    cdef readonly bint elementwise      # there is no W_hh
    cdef readonly int phases            # products with W_hh a step

    cdef void take(self, const CellDescription* c):
        self.c = c
        self.name = c.name.decode()
        self.gates, self.places = c.gates.decode(), c.places.decode()
        self.states, self.elementwise = c.states.decode(), c.elementwise
        self.phases = 2 if c.second else 1
        cdef ptrdiff_t k
        self.own = tuple([c.own[k].name.decode() for k in range(own_vectors(c))])
        self.starts = tuple([c.h_gates[c.own[k].starts - 1] if c.own[k].starts else -1
                             for k in range(own_vectors(c))])

    def __reduce__(self):
        """A built-in cell is known by its name."""
        return cell, (self.name,)


def cells():
    """Names of the built-in cells."""
    return tuple([built_in[k].name.decode() for k in range(cell_count)])


def cell(str name):
    """The built-in cell of this name."""
    cdef Cell found
    for k in range(cell_count):
        if built_in[k].name == <bytes>name.encode():
            found = Cell()
            found.take(built_in[k])
            return found
    raise ValueError(f"cell: no cell is called {name!r}; expected one of {', '.join(cells())}")


cdef class CustomCell(Cell):
    """A cell whose gate mathematics is somebody else's: two C functions as in cells/cell.h.

    The functions live at the given addresses, which must stay valid; `keep` is held with them.
    `x_gates` and `h_gates` say which public gate stands in each place, `gradients` in which place of
    `saved` backward leaves the gradient of each own vector, `further` how many places behind those of
    `places` forward uses. Of a step of two phases the last `second` of `h_gates` are of the second one,
    and the first one has functions of its own.
    """

    cdef CellDescription description
    cdef list texts
    cdef readonly object keep

    def __init__(self, str name, str gates, str places, str states, tuple own, tuple starts,
                 list x_gates, list h_gates, list gradients, size_t forward, size_t backward,
                 keep=None, int further=0, bint elementwise=False, int second=0,
                 size_t first_forward=0, size_t first_backward=0):
        cdef CellDescription* c = &self.description
        if not 1 <= len(gates) <= MOST_GATES or not len(gates) == len(x_gates) == len(h_gates):
            raise ValueError(f"gates: expected 1 to {MOST_GATES}, got {len(gates)}")
        if len(own) > MOST_OWN or not len(own) == len(starts) == len(gradients):
            raise ValueError(f"own: expected at most {MOST_OWN} vectors, got {len(own)}")
        if not len(gates) <= len(places) <= 2 * MOST_GATES:
            raise ValueError(f"places: expected {len(gates)} to {2 * MOST_GATES}, got {len(places)}")
        if not sorted(x_gates) == sorted(h_gates) == list(range(len(gates))):
            raise ValueError(f"x_gates, h_gates: expected each gate once, got {x_gates}, {h_gates}")
        if not states.startswith("h") or not len(set(states)) == len(states) <= MOST_STATES:
            raise ValueError(f"states: expected h and up to {MOST_STATES - 1} letters, got {states!r}")
        if not (gates + places + states).isascii():
            raise ValueError(f"gates, places, states: expected ASCII, got {gates}, {places}, {states}")
        if not all(0 <= place < MOST_PLACES for place in gradients):
            raise ValueError(f"gradients: expected places below {MOST_PLACES}, got {gradients}")
        if not 0 <= further <= MOST_PLACES - len(places):
            raise ValueError(f"further: expected 0 to {MOST_PLACES - len(places)}, got {further}")
        if elementwise and len(places) != len(gates):
            raise ValueError(f"places: expected {len(gates)} of an elementwise cell, got {len(places)}")
        if not forward or not backward:
            raise ValueError("forward, backward: expected addresses of functions, got 0")
        if not 0 <= second < len(gates) or (second > 0) != (first_forward > 0 and first_backward > 0):
            raise ValueError("second: expected fewer than all gates, and with some of them the addresses "
                             f"of first_forward and first_backward, got {second}")
        if second and (elementwise or any(gate >= 0 for gate in starts)):
            raise ValueError("second: expected 0 of an elementwise cell, or one whose sums start from "
                             f"vectors, got {second}")
        self.keep = keep
        self.texts = [text.encode() for text in (name, gates, places, states, *own)]
        memset(c, 0, sizeof(CellDescription))
        c.name, c.gates, c.places, c.states = self.texts[0], self.texts[1], self.texts[2], self.texts[3]
        for k in range(len(gates)):
            c.x_gates[k] = x_gates[k]
            c.h_gates[k] = h_gates[k]
        for k in range(len(own)):
            c.own[k].name = self.texts[4 + k]
            c.own[k].starts = 0 if starts[k] < 0 else 1 + h_gates.index(starts[k])
            c.own[k].gradient = gradients[k]
        c.further, c.elementwise = further, elementwise
        c.second = second
        c.first_forward, c.first_backward = <cell_function>first_forward, <cell_function>first_backward
        c.forward = <cell_function>forward
        c.backward = <cell_function>backward
        self.take(c)

    def __reduce__(self):
        """Refuse to be pickled: it is an address in this process."""
        raise TypeError("cell: a compiled cell cannot be pickled; pickle what it is compiled from")
