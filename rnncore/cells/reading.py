"""A cell's function, read line by line: what may stand in it, and what it says."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import numpy as np

from rnncore.cells import functions
from rnncore.cells.graph import Graph, Node

#: What each of a function's arguments is.
ARGUMENTS = {
    "z": "gates, W_hx x + W_hh h_prev + b",
    "x": "their parts W_hx x + b",
    "h": "their parts W_hh h_prev",
    "prev": "the states before the step",
    "own": "vectors of the cell's own",
}

_OPERATORS: dict[type, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_COMPARISONS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_STATEMENTS: dict[type, str] = {
    ast.If: "an if statement; write `a if condition else b`, or where(condition, a, b)",
    ast.For: "a loop; write its turns one after another",
    ast.While: "a loop; write its turns one after another",
    ast.Raise: "raise: the engine cannot stop in the middle of a step; return a NaN instead",
    ast.Assert: "assert: the engine cannot stop in the middle of a step",
    ast.Try: "try: nothing in a cell raises",
}


class CellError(ValueError):
    """A cell's function is none: which line of it, and why."""


class Reading:
    """What a function says, in one graph.

    Parameters
    ----------
    function
        A plain `def`.
    graph
        Where its nodes go.
    members
        Of each argument, the names behind its dot and their nodes.

    Attributes
    ----------
    names
        Local names and their last values.
    found
        What the function returns: nodes, or a dictionary of them.
    """

    def __init__(
        self, function: Callable[..., Any], graph: Graph, members: Mapping[str, Mapping[str, Node]]
    ) -> None:
        if not isinstance(function, FunctionType):
            raise CellError(f"a cell: expected a function, got {type(function).__name__}")
        self.function, self.graph, self.members = function, graph, members
        self.names: dict[str, Node] = {}
        self.found: Any = None
        self._read_source()
        scope = inspect.getclosurevars(function)
        self._outside: dict[str, Any] = {**scope.globals, **scope.nonlocals}
        for statement in self._body:
            self._line = statement.lineno
            if self.found is not None:
                self.fail(statement, "stands behind the return", "remove it")
            self._read(statement)
        if self.found is None:
            raise CellError(f"{self.where(self._first)}: expected a return at the end, got none")

    # Places and errors

    def _read_source(self) -> None:
        function = self.function
        if function.__name__ == "<lambda>":
            raise CellError("a cell: expected a function made by def, got a lambda")
        try:
            lines, self._first = inspect.getsourcelines(function)
        except (OSError, TypeError):
            raise CellError(
                f"{function.__name__}: its source cannot be read; define it in a file or a notebook"
            ) from None
        self._lines = lines
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
        if not isinstance(tree, ast.FunctionDef):
            raise CellError(f"{function.__name__}: expected a plain def, got an async one")
        given = tree.args
        self.arguments = [argument.arg for argument in given.args]
        odd = [*given.posonlyargs, *given.kwonlyargs, given.vararg, given.kwarg, *given.defaults]
        unknown = [name for name in self.arguments if name not in self.members]
        if unknown or any(odd):
            wanted = "; ".join(f"{name}: {ARGUMENTS[name]}" for name in self.members
                               if name in ARGUMENTS) or ", ".join(self.members)  # fmt: skip
            raise CellError(
                f"{self.where(tree.lineno + self._first - 1)}: expected arguments among "
                f"{', '.join(self.members)} ({wanted}), got "
                f"{', '.join(unknown) or 'defaults or a star'}"
            )
        self._body = tree.body
        if isinstance(self._body[0], ast.Expr) and isinstance(self._body[0].value, ast.Constant):
            self._body = self._body[1:]

    def where(self, line: int) -> str:
        """Return the file, the number and the text of a line."""
        number = line - self._first
        text = self._lines[number].strip() if 0 <= number < len(self._lines) else ""
        return f"{Path(self.function.__code__.co_filename).name}, line {line}: `{text}`"

    def fail(self, node: ast.AST, came: str, do: str = "") -> NoReturn:
        """Refuse a part of the function."""
        line = getattr(node, "lineno", self._line) + self._first - 1
        more = f"; {do}" if do else ""
        raise CellError(f"{self.where(line)}: {came}{more}")

    def fail_return(self, reason: str) -> NoReturn:
        """Refuse what the function returns."""
        self.fail(self._body[-1], reason)

    # Statements

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Return):
            if statement.value is None:
                self.fail(statement, "returns nothing")
            self.found = self._returned(statement.value)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement.targets[0], statement.value)
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            before = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement)
            whole = ast.BinOp(before, statement.op, statement.value)
            self._assign(statement.target, ast.copy_location(whole, statement))
        else:
            name = type(statement).__name__
            reason = _STATEMENTS.get(type(statement), f"a cell cannot have {name} in it")
            self.fail(statement, reason, "" if type(statement) in _STATEMENTS
                      else "expected `name = ...` and a return")  # fmt: skip

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            # An argument may be hidden from here on: `z = sigmoid(x.z)` is what papers write.
            self.names[target.id] = self.number(value)
        elif isinstance(target, ast.Tuple):
            if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
                self.fail(target, f"expected {len(target.elts)} numbers with commas between")
            numbers = [self.number(part) for part in value.elts]
            for name, number in zip(target.elts, numbers, strict=True):
                if not isinstance(name, ast.Name):
                    self.fail(target, "expected names to the left of =")
                self.names[name.id] = number
        else:
            self.fail(target, "expected a name to the left of =")

    def _returned(self, value: ast.expr) -> Any:
        if isinstance(value, ast.Dict):
            if not all(isinstance(key, ast.Constant) and isinstance(key.value, str)
                       for key in value.keys):  # fmt: skip
                self.fail(value, 'expected names such as "z.i" as keys')
            return {
                key.value: self.number(part)  # type: ignore[union-attr]
                for key, part in zip(value.keys, value.values, strict=True)
            }
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        return [self.number(part) for part in parts]

    # Expressions

    def number(self, node: ast.expr) -> Node:
        """Return the number that an expression is."""
        found = self._expression(node)
        if found.is_condition:
            self.fail(node, "expected a number, got a condition", "where(it, 1.0, 0.0) is one")
        return found

    def _condition(self, node: ast.expr) -> Node:
        found = self._expression(node)
        if not found.is_condition:
            self.fail(node, "expected a condition, got a number", "compare it, as in `a > 0`")
        return found

    def _expression(self, node: ast.expr) -> Node:
        self.graph.line = node.lineno + self._first - 1
        read = getattr(self, f"_read_{type(node).__name__}", None)
        if read is None:
            self.fail(node, f"a cell cannot have {type(node).__name__} in it",
                      "expected arithmetic, comparisons and functions of numbers")  # fmt: skip
        found: Node = read(node)
        return found

    def _read_Constant(self, node: ast.Constant) -> Node:
        return self._constant(node, node.value)

    def _constant(self, node: ast.expr, value: Any) -> Node:
        if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
            self.fail(node, f"expected a number, got {type(value).__name__}")
        if not math.isfinite(value):
            self.fail(node, f"expected a finite number, got {value}")
        return self.graph.number(float(value))

    def _read_Name(self, node: ast.Name) -> Node:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in self.arguments:
            some = ", ".join(f"{node.id}.{name}" for name in self.members[node.id]) or "nothing"
            self.fail(node, f"{node.id} is no number", f"it has {some}")
        if node.id not in self._outside:
            self.fail(node, f"{node.id} is not known here", "assign it above")
        return self._constant(node, self._outside[node.id])

    def _read_Attribute(self, node: ast.Attribute) -> Node:
        if (
            isinstance(node.value, ast.Name)
            and node.value.id in self.arguments
            and (node.value.id not in self.names)
        ):
            group = self.members[node.value.id]
            if node.attr not in group:
                declared = ", ".join(group) or "none"
                self.fail(node, f"{node.value.id}.{node.attr} is not declared",
                          f"{node.value.id} has {declared}; see gates, states, own")  # fmt: skip
            return group[node.attr]
        return self._constant(node, self._object(node))

    def _read_BinOp(self, node: ast.BinOp) -> Node:
        if isinstance(node.op, ast.Pow):
            base, exponent = self.number(node.left), self.number(node.right)
            if (
                not exponent.is_number()
                or exponent.data != int(exponent.data)
                or (abs(exponent.data) > 16)
            ):
                self.fail(node, "expected a whole number up to 16 as the power",
                          "sqrt, or exp(power * log(a)), is another one")  # fmt: skip
            return self.graph.power(base, int(exponent.data))
        name = _OPERATORS.get(type(node.op))
        if name is None:
            self.fail(node, f"{type(node.op).__name__} is not known here", "expected + - * / **")
        result: Node = getattr(self.graph, name)(self.number(node.left), self.number(node.right))
        return result

    def _read_UnaryOp(self, node: ast.UnaryOp) -> Node:
        if isinstance(node.op, ast.Not):
            return self.graph.logic("not", self._condition(node.operand))
        if isinstance(node.op, ast.Invert):
            self.fail(node, "a cell cannot have ~ in it")
        number = self.number(node.operand)
        return self.graph.neg(number) if isinstance(node.op, ast.USub) else number

    def _read_Compare(self, node: ast.Compare) -> Node:
        numbers = [self.number(part) for part in (node.left, *node.comparators)]
        found: Node | None = None
        for op, a, b in zip(node.ops, numbers, numbers[1:], strict=False):
            if type(op) not in _COMPARISONS:
                self.fail(node, "expected < <= > >= == or !=")
            one = self.graph.compare(_COMPARISONS[type(op)], a, b)
            found = one if found is None else self.graph.logic("and", found, one)
        assert found is not None
        return found

    def _read_BoolOp(self, node: ast.BoolOp) -> Node:
        found, *more = [self._condition(part) for part in node.values]
        for one in more:
            op = "and" if isinstance(node.op, ast.And) else "or"
            found = self.graph.logic(op, found, one)
        return found

    def _read_IfExp(self, node: ast.IfExp) -> Node:
        condition = self._condition(node.test)
        return self.graph.where(condition, self.number(node.body), self.number(node.orelse))

    def _object(self, node: ast.expr) -> Any:
        # What a name with dots is outside of the function.
        if isinstance(node, ast.Attribute):
            whole = self._object(node.value)
            if not hasattr(whole, node.attr):
                self.fail(node, f"there is no {ast.unparse(node)}")
            return getattr(whole, node.attr)
        if not isinstance(node, ast.Name):
            self.fail(node, f"expected a name, got {ast.unparse(node)}")
        if node.id in self._outside:
            return self._outside[node.id]
        # The functions of a cell are known without an import.
        if node.id in functions.FUNCTIONS:
            return getattr(functions, node.id, None) or getattr(builtins, node.id)
        self.fail(node, f"{node.id} is not known here", f"a cell has {_known()}")

    def _read_Call(self, node: ast.Call) -> Node:
        function = self._object(node.func)
        known = functions.known(function)
        text = ast.unparse(node.func)
        if known is None:
            module = getattr(function, "__module__", None) or type(function).__module__
            owner = getattr(function, "__self__", None)
            if "random" in f"{module} {type(owner).__module__} {text}" or (
                isinstance(owner, ModuleType) and "random" in owner.__name__
            ):
                self.fail(node, f"{text} draws random numbers: backward could not know them",
                          "draw outside, and give them as inputs")  # fmt: skip
            self.fail(node, f"{text} is a function of your own or of another library",
                      f"write its lines here; a cell has {_known()}")  # fmt: skip
        count = known.arity
        if node.keywords or len(node.args) != count:
            self.fail(node, f"{text}: expected {count} arguments without names, "
                      f"got {len(node.args) + len(node.keywords)}")  # fmt: skip
        if known is functions.FUNCTIONS["where"]:
            rest = [self.number(part) for part in node.args[1:]]
            return self.graph.where(self._condition(node.args[0]), *rest)
        return known.make(self.graph, *(self.number(a) for a in node.args))


def _known() -> str:
    return ", ".join(functions.FUNCTIONS)


def check_names(what: str, names: Collection[str]) -> None:
    """Refuse names that are none, or there twice."""
    odd = [name for name in names if not name.isidentifier() or not name.isascii()]
    if odd or len(set(names)) < len(names):
        raise CellError(f"{what}: expected different names, got {', '.join(names)}")
