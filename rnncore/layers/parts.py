"""What a module is made of: its parts, their precision, and which of them are trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.engine.precision import check_precision


class Parts:
    """The parts of a module: taken as attributes, named, frozen."""

    dtype: np.dtype
    _children: dict[str, Any]
    _shapes: dict[str, tuple[int, ...]]
    _flat: np.ndarray
    _own_size: int
    _guard: Any
    _is_part: bool
    _takes_dtype: bool
    _frozen = False  # its own parameters; its parts have a mark each

    def _set_up(self) -> None:
        raise NotImplementedError

    def weights_changed(self) -> None:
        """Have weights packed anew."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        """Take a module, or a list of modules, as a part of that name, unless it begins with _."""
        if isinstance(value, Parts):
            self._add_part(name, value)
        elif isinstance(value, list | tuple) and any(isinstance(one, Parts) for one in value):
            value = tuple(value)
            for number, one in enumerate(value):
                self._add_part(f"{name}.{number}", one)
        super().__setattr__(name, value)

    def _add_part(self, name: str, part: Any) -> None:
        if name.startswith("_"):
            return
        if "_children" not in self.__dict__:
            raise RuntimeError(
                f"{name}: call super().__init__() first, before parts are given to a module"
            )
        if self._children.get(name) is part:
            return
        if name in self._children or self._is_part:
            raise ValueError(
                f"{name}: a module keeps its parts, and takes no more once it is itself a part; "
                "make a new one"
            )
        self._take_dtype(part)
        self._check_part(name, part)
        self._children[name] = part
        self._set_up()
        part._is_part = True

    def _take_dtype(self, part: Any) -> None:
        if self._takes_dtype and not self._shapes and isinstance(part, Parts):
            self.dtype = part.dtype
        self._takes_dtype = False

    def _check_part(self, name: str, part: Any) -> None:
        if not isinstance(part, Parts):
            raise TypeError(f"{name}: expected a layer or model, got {type(part).__name__}")
        if part.dtype != self.dtype:
            raise ValueError(f"dtype: expected {self.dtype} in {name}, got {part.dtype}")
        if part._is_part or part is self:
            raise ValueError(
                f"{name}: expected a module that is no part yet, got one whose parameters "
                "belong to another part or module; make a new one and give it the state_dict"
            )

    def named_modules(self, name: str = "") -> Iterator[tuple[str, Any]]:
        """Yield name and module of itself, which is called `name`, and of all its parts."""
        yield name, self
        for part, child in self._children.items():
            yield from child.named_modules(f"{name}.{part}" if name else part)

    def set_precision(self, precision: str) -> None:
        """Change the precision of the matrix products of all its layers.

        Parameters are as they were: a model trained in float32 runs in bfloat16, and back. A
        backward pass of an earlier forward is refused. Call it while no other thread runs the
        module: that pass might have one layer as it was and the next as it will be, or end in an
        error.

        Parameters
        ----------
        precision
            As `set_matmul_precision` has it.

        Raises
        ------
        ValueError
            If there is no such precision, the module is float64, or a layer cannot have it: then
            all layers stay as they were.

        Examples
        --------
        >>> import rnncore
        >>> rnn, head = rnncore.GRU(3, 8, seed=0), rnncore.Linear(8, 2, seed=0)
        >>> rnncore.Sequential(rnn, head).set_precision("bfloat16")
        >>> rnn.precision, head.precision
        ('bfloat16', 'bfloat16')
        """
        check_precision(precision, self.dtype)
        modules = [module for _, module in self.named_modules() if hasattr(module, "precision")]
        before = [module.precision for module in modules]
        with self._guard.writing():
            try:
                for module in modules:
                    module._take_precision(precision)
            except ValueError:
                for module, old in zip(modules, before, strict=True):
                    module._take_precision(old)
                raise
            finally:
                self.weights_changed()

    def _take_precision(self, precision: str) -> None:
        pass

    @property
    def has_own_parameters(self) -> bool:
        """Whether it has parameters that are not those of a part."""
        return bool(self._shapes)

    def freeze(self) -> None:
        """Have optimizers leave its parameters alone, those of its parts included.

        Gradients are computed as before; optimizers and `clip_grad_norm` pass them over, weight
        decay and moments as well. A part of it may be unfrozen again by itself.

        Examples
        --------
        >>> import rnncore
        >>> parts = {"body": rnncore.Linear(3, 2, seed=0), "head": rnncore.Linear(2, 1, seed=1)}
        >>> model = rnncore.Module(children=parts)
        >>> model.freeze()
        >>> parts["head"].unfreeze()
        >>> model.frozen, parts["body"].frozen, model.trainable()
        (False, True, [slice(8, 11, None)])
        """
        self._mark_frozen(True)

    def unfreeze(self) -> None:
        """Have optimizers update all its parameters again."""
        self._mark_frozen(False)

    def _mark_frozen(self, frozen: bool) -> None:
        self._frozen = frozen
        for child in self._children.values():
            child._mark_frozen(frozen)

    @property
    def frozen(self) -> bool:
        """Whether all its parameters are frozen; False where it has none."""
        return self._flat.size > 0 and not self.trainable()

    def trainable(self) -> list[slice]:
        """Return what of `flat_params` is not frozen, in ascending order, neighbours merged."""
        found: list[slice] = []
        self._add_trainable(found, 0)
        return found

    def _add_trainable(self, found: list[slice], first: int) -> int:
        last = first + self._own_size
        if last > first and not self._frozen:
            if found and found[-1].stop == first:
                first = found.pop().start
            found.append(slice(first, last))
        for child in self._children.values():
            last = child._add_trainable(found, last)
        return last
