"""A cell's graphs as machine code: vectors as wide as the engine's, no calls and no branches.

llvmlite hands the instructions to LLVM. They are vector instructions from the start, so nothing is
left for a compiler to find out; exp, tanh and the like are what src_cython/simd.h makes of them,
with its constants.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rnncore.cells.graph import COMPARISONS, Node, in_order
from rnncore.cells.places import Places
from rnncore.engine import chosen_build

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels

try:
    import llvmlite.binding as llvm
    from llvmlite import ir
except ImportError:
    raise ImportError(
        'cells of your own need llvmlite; install it with: pip install "rnncore[cells]"'
    ) from None

CONTRACT = ("contract",)  # a b + c in one instruction, as in the engine; NaN stays NaN
INDEX = ir.IntType(64)
POINTER = ir.PointerType()
#: Processors by the engine's builds: a cell's bits depend on the build, as the engine's do.
PROCESSORS = {"v3": "x86-64-v3", "v4": "x86-64-v4"}


class Vectors:
    """Instructions on vectors of one build and dtype."""

    def __init__(self, kernels: Kernels, bits: int) -> None:
        self.bits, self.lanes = bits, kernels.lanes
        self.kernels, self.constants = kernels, kernels.elementary
        real, whole = (ir.FloatType() if bits == 32 else ir.DoubleType()), ir.IntType(bits)
        self.real, self.bytes = real, bits // 8
        self.type, self.whole = ir.VectorType(real, self.lanes), ir.VectorType(whole, self.lanes)
        self.significand, self.bias = (23, 127) if bits == 32 else (52, 1023)
        self.builder: Any = None

    def splat(self, value: float) -> Any:
        """Return a constant in all lanes."""
        return ir.Constant(self.type, [ir.Constant(self.real, value)] * self.lanes)

    def whole_splat(self, value: int) -> Any:
        """Return a whole number in all lanes."""
        return ir.Constant(self.whole, [value] * self.lanes)

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self.builder.fadd(a, b, flags=CONTRACT)

    def sub(self, a: Any, b: Any) -> Any:
        """Return a - b."""
        return self.builder.fsub(a, b, flags=CONTRACT)

    def mul(self, a: Any, b: Any) -> Any:
        """Return a b."""
        return self.builder.fmul(a, b, flags=CONTRACT)

    def div(self, a: Any, b: Any) -> Any:
        """Return a / b."""
        return self.builder.fdiv(a, b, flags=CONTRACT)

    def neg(self, a: Any) -> Any:
        """Return -a."""
        return self.builder.fneg(a)

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        """Return one of two, lane by lane."""
        return self.builder.select(condition, yes, no)

    def compare(self, op: str, a: Any, b: Any) -> Any:
        """Return a condition; a NaN is not equal to anything and in no order."""
        if op == "!=":
            return self.builder.fcmp_unordered(op, a, b)
        return self.builder.fcmp_ordered(op, a, b)

    # Functions, as in simd.h

    def clamp(self, x: Any, low: float, high: float) -> Any:
        """Return x between two numbers; a NaN stays."""
        for op, border in (("<", high), (">", low)):
            limit = self.splat(border)
            x = self.select(self.compare(op, limit, x), limit, x)
        return x

    def whole_part(self, x: Any, per: float) -> tuple[Any, Any]:
        """Return per x rounded, as a number and in the low bits of another."""
        rounder = self.splat(self.constants["rounder"])
        shifted = self.add(self.mul(x, self.splat(per)), rounder)
        return self.sub(shifted, rounder), self.builder.bitcast(shifted, self.whole)

    def power_of_two(self, n: Any) -> Any:
        """Return 2^n."""
        shift = self.whole_splat(self.significand)
        bits = self.builder.add(
            self.builder.shl(n, shift), self.whole_splat(self.bias << self.significand)
        )
        return self.builder.bitcast(bits, self.type)

    def polynomial(self, terms: Sequence[float], r: Any) -> Any:
        """Return c_0 + c_1 r + ..., pairs of terms over r^2."""
        square, last = self.mul(r, r), (len(terms) - 1) // 2 * 2

        def pair(k: int) -> Any:
            if k + 1 == len(terms):
                return self.splat(terms[k])
            return self.add(self.mul(self.splat(terms[k + 1]), r), self.splat(terms[k]))

        total = pair(last)
        for k in range(last - 2, -1, -2):
            total = self.add(self.mul(total, square), pair(k))
        return total

    def exp(self, x: Any) -> Any:
        """Return e^x."""
        c, builder = self.constants, self.builder
        inside = self.clamp(x, c["exp_lowest"], c["exp_highest"])
        number, n = self.whole_part(inside, c["log2_e"])
        r = self.sub(inside, self.mul(number, self.splat(c["ln2_high"])))
        r = self.sub(r, self.mul(number, self.splat(c["ln2_low"])))
        n = builder.sub(n, builder.bitcast(self.splat(c["rounder"]), self.whole))
        half = builder.ashr(n, self.whole_splat(1))
        e = self.mul(self.polynomial(self.kernels.exp_terms, r), self.power_of_two(half))
        e = self.mul(e, self.power_of_two(builder.sub(n, half)))
        return self.select(self.compare("<", x, self.splat(c["exp_lowest"])), self.splat(0), e)

    def sigmoid(self, x: Any) -> Any:
        """Return 1 / (1 + e^-x)."""
        c = self.constants
        x = self.clamp(x, -c["exp_highest"], -c["exp_lowest"])
        number, n = self.whole_part(x, -c["log2_e"])
        r = self.sub(self.neg(x), self.mul(number, self.splat(c["ln2_high"])))
        r = self.sub(r, self.mul(number, self.splat(c["ln2_low"])))
        e = self.mul(self.power_of_two(n), self.polynomial(self.kernels.exp_terms, r))
        return self.div(self.splat(1), self.add(self.splat(1), e))

    def tanh(self, x: Any) -> Any:
        """Return the hyperbolic tangent."""
        c, builder = self.constants, self.builder
        inside = self.clamp(x, -c["tanh_one"], c["tanh_one"])
        number, n = self.whole_part(inside, 2 * c["log2_e"])
        r = self.sub(inside, self.mul(number, self.splat(c["half_ln2"])))
        if self.bits == 64:
            r = self.sub(r, self.mul(number, self.splat(c["ln2_low"] / 2)))
        p = self.mul(self.mul(r, r), self.polynomial(self.kernels.expm1_terms, r))
        p, scale = self.add(r, p), self.power_of_two(n)
        half = self.splat(0.5)
        t = self.add(self.mul(scale, p), self.sub(self.mul(scale, half), half))
        t = self.div(t, self.add(self.splat(1), t))
        sign = builder.bitcast(self.splat(-0.0), self.whole)
        bits = builder.or_(
            builder.bitcast(t, self.whole), builder.and_(builder.bitcast(x, self.whole), sign)
        )
        return builder.bitcast(bits, self.type)

    def log(self, x: Any) -> Any:
        """Return the logarithm: x = 2^n m with m around 1, log m = 2 s (1 + s^2 / 3 + ...)."""
        # with s = (m - 1) / (m + 1), |s| < 0.172
        builder = self.builder
        bits = builder.bitcast(x, self.whole)
        # Half a step of the exponent lies at the root of 1/2.
        root = builder.bitcast(self.splat(0.7071067811865476), self.whole)
        n = builder.ashr(builder.sub(bits, root), self.whole_splat(self.significand))
        m = builder.bitcast(
            builder.sub(bits, builder.shl(n, self.whole_splat(self.significand))), self.type
        )
        one = self.splat(1)
        s = self.div(self.sub(m, one), self.add(m, one))
        terms = [2 / (2 * k + 1) for k in range(6 if self.bits == 32 else 12)]
        series = self.mul(s, self.polynomial(terms, self.mul(s, s)))
        number = builder.sitofp(n, self.type)
        low = self.add(self.mul(number, self.splat(self.constants["ln2_low"])), series)
        result = self.add(self.mul(number, self.splat(self.constants["ln2_high"])), low)
        infinity, zero = self.splat(float("inf")), self.splat(0)
        result = self.select(self.compare("==", x, infinity), x, result)
        result = self.select(self.compare("==", x, zero), self.splat(float("-inf")), result)
        fails = builder.not_(self.compare(">=", x, zero))
        return self.select(fails, self.splat(float("nan")), result)

    def log1p(self, x: Any) -> Any:
        """Return log(1 + x): what 1 + x rounds away is added to the first order."""
        u = self.add(self.splat(1), x)
        rest = self.div(self.sub(x, self.sub(u, self.splat(1))), u)
        rest = self.select(self.compare("<", self.abs(u), self.splat(1e30)), rest, self.splat(0))
        result = self.add(self.log(u), rest)
        return self.select(self.compare("==", u, self.splat(0)), self.splat(float("-inf")), result)

    def abs(self, x: Any) -> Any:
        """Return |x|."""
        bits = self.builder.bitcast(x, self.whole)
        most = self.whole_splat((1 << (self.bits - 1)) - 1)
        return self.builder.bitcast(self.builder.and_(bits, most), self.type)

    def sqrt(self, x: Any) -> Any:
        """Return the square root."""
        name = f"llvm.sqrt.v{self.lanes}f{self.bits}"
        module = self.builder.module
        known = module.globals.get(name)
        if known is None:
            known = ir.Function(module, ir.FunctionType(self.type, [self.type]), name)
        return self.builder.call(known, [x])

    # Graphs

    def compute(self, ends: Sequence[Node], values: dict[int, Any]) -> None:
        """Add the values of nodes, by id, to those that are known."""
        builder = self.builder
        known = [node for node in in_order(ends) if id(node) in values]
        do: dict[str, Callable[..., Any]] = {
            "+": self.add, "-": self.sub, "*": self.mul, "/": self.div, "neg": self.neg,
            "where": self.select, "and": builder.and_, "or": builder.or_, "not": builder.not_,
        }  # fmt: skip
        for node in in_order(ends, known):
            if id(node) in values:
                continue
            args = [values[id(arg)] for arg in node.args]
            if node.op == "number":
                values[id(node)] = self.splat(node.data)
            elif node.op in COMPARISONS:
                values[id(node)] = self.compare(node.op, *args)
            else:
                values[id(node)] = (do.get(node.op) or getattr(self, node.op))(*args)


class Step:
    """The loops over the rows and units of one `Block`, with what is in them."""

    def __init__(self, vectors: Vectors, module: Any, name: str, states: Iterable[str]) -> None:
        self.vectors, self.states = vectors, list(states)
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        self.function = ir.Function(module, kind, name)
        self.builder = vectors.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.fields: dict[str, Any] = {}
        self.index: dict[str, Any] = {}  # the row and the unit of the loops
        for k, field in enumerate(vectors.kernels.block_fields):
            whole = field in ("rows", "units") or field.endswith(("_stride", "_apart"))
            at = self.builder.gep(
                self.function.args[0], [ir.Constant(INDEX, k)], source_etype=INDEX
            )
            self.fields[field] = self.builder.load(at, typ=INDEX if whole else POINTER)

    def loops(self, body: Callable[[], None]) -> None:
        """Run `body` for each row and vector of units; a row and a vector there are always."""
        self._loop(self.fields["rows"], 1, "row", lambda: self._loop(
            self.fields["units"], self.vectors.lanes, "unit", body))  # fmt: skip
        self.builder.ret_void()

    def _loop(self, end: Any, step: int, name: str, body: Callable[[], None]) -> None:
        builder = self.builder
        before, block = builder.block, builder.append_basic_block(name)
        after = builder.append_basic_block(f"{name}_end")
        builder.branch(block)
        builder.position_at_end(block)
        number = builder.phi(INDEX)
        number.add_incoming(ir.Constant(INDEX, 0), before)
        self.index[name] = number
        body()
        following = builder.add(number, ir.Constant(INDEX, step))
        number.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, end), block, after)
        builder.position_at_end(after)

    def _at(self, field: str, stride: str, place: int, apart: str) -> Any:
        builder, row, unit = self.builder, self.index["row"], self.index["unit"]
        here = builder.add(builder.mul(row, self.fields[stride]), unit)
        if place:
            there = builder.mul(ir.Constant(INDEX, place), self.fields[apart])
            here = builder.add(here, there)
        return builder.gep(self.fields[field], [here], source_etype=self.vectors.real)

    def load(self, field: str, stride: str, place: int = 0, apart: str = "units") -> Any:
        """Return a vector of a field of the block; its places are `apart`."""
        at = self._at(field, stride, place, apart)
        return self.builder.load(at, align=self.vectors.bytes, typ=self.vectors.type)

    def store(
        self, value: Any, field: str, stride: str, place: int = 0, apart: str = "units"
    ) -> None:
        """Write a vector there."""
        at = self._at(field, stride, place, apart)
        self.builder.store(value, at, align=self.vectors.bytes)

    def where_is(self, state: str, form: str = "{}") -> tuple[str, str, int, str]:
        """Say where a state stands: as it is, "{}_prev" or "d{}"."""
        k = self.states.index(state)
        field = form.format("c" if k else "h")
        return field, "state_stride", max(k - 1, 0), f"{field}_apart"

    def load_input(self, name: str, places: Places, own: Sequence[str]) -> Any:
        """Return an input of the graph."""
        part, _, rest = name.partition(".")
        if part == "x":
            return self.load("saved", "saved_stride", places.x_gates.index(rest))
        if part == "h":
            return self.load("recurrent", "recurrent_stride", places.h_gates.index(rest))
        if part == "own":
            return self.load("own", "own_stride", own.index(rest))
        if part == "prev":
            return self.load(*self.where_is(rest, "{}_prev"))
        return self.load_arriving(rest)

    def load_arriving(self, state: str) -> Any:
        """Return dL/dh or dL/dc of the step; that of h may come from the layer above as well."""
        d = self.load(*self.where_is(state, "d{}"))
        if state != "h":
            return d
        builder = self.builder
        given = builder.icmp_unsigned("!=", self.fields["dy"], ir.Constant(POINTER, None))
        before = builder.block
        with builder.if_then(given):
            both = self.vectors.add(d, self.load("dy", "dy_stride"))
            inside = builder.block
        total = builder.phi(self.vectors.type)
        total.add_incoming(d, before)
        total.add_incoming(both, inside)
        return total


def forward_step(
    vectors: Vectors, module: Any, states: Mapping[str, Node], places: Places, own: Sequence[str]
) -> None:
    """Write the forward step."""
    step = Step(vectors, module, "forward", states)

    def body() -> None:
        ends = [*states.values(), *places.saved.values()]
        values = {
            id(node): step.load_input(node.data, places, own)
            for node in in_order(ends) if node.op == "input"
        }  # fmt: skip
        vectors.compute(ends, values)
        for state, node in states.items():
            step.store(values[id(node)], *step.where_is(state))
        for place, node in places.saved.items():
            if not (node.op == "input" and node.data == f"x.{places.x_gates[place : place + 1]}"):
                step.store(values[id(node)], "saved", "saved_stride", place)

    step.loops(body)


def backward_step(
    vectors: Vectors,
    module: Any,
    states: Mapping[str, Node],
    before: Mapping[str, Node],
    places: Places,
    own: Sequence[str],
) -> None:
    """Write the backward step; `before` has the gradient of each state before the step."""
    step = Step(vectors, module, "backward", states)

    def body() -> None:
        ends = [*places.gradients.values(), *before.values()]
        known = [*places.saved.values(), *states.values()]
        there = {id(node) for node in in_order(ends, known)}
        values = {}
        for place, node in places.saved.items():
            if id(node) in there:
                values[id(node)] = step.load("saved", "saved_stride", place)
        for state, node in states.items():
            if id(node) in there and id(node) not in values:
                values[id(node)] = step.load(*step.where_is(state))
        for node in in_order(ends, known):
            if node.op == "input" and id(node) not in values:
                values[id(node)] = step.load_input(node.data, places, own)
        vectors.compute(ends, values)
        for place, node in places.gradients.items():
            step.store(values[id(node)], "saved", "saved_stride", place)
        for state, node in before.items():
            step.store(values[id(node)], *step.where_is(state, "d{}"))

    step.loops(body)


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine(build: str) -> Any:
    # A new one each time: it belongs to the code that it is used for, and goes with it.
    _initialize()
    known = platform.machine().lower() in ("x86_64", "amd64")
    processor = PROCESSORS.get(build) or ("x86-64" if known else llvm.get_host_cpu_name())
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=processor, opt=3, jit=True)


def build_module(write: Callable[[Any], None]) -> tuple[Any, Any]:
    """Return what keeps the code of a module alive, and its assembly; `write` fills it."""
    module = ir.Module()
    module.triple = llvm.get_default_triple()
    write(module)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = _machine(chosen_build()[0])
    assembly = machine.emit_assembly(parsed)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine, assembly
