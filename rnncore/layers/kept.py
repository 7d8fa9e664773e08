"""Passes as values: what one forward keeps for one backward."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

from rnncore.layers.module import Module


class Kept:
    """What a `forward` keeps for one `backward`; give it back as `kept`.

    Each serves once, in any order and on any thread, as long as the weights that it was made with
    have not changed.
    """

    _used = False

    def __init__(self, module: Module) -> None:
        # A weak reference: a module holds its last pass.
        self._module, self._version = weakref.ref(module), module._version

    def check(self) -> None:
        """Refuse a backward that must not use it; nothing is changed."""
        if self._used:
            raise RuntimeError(
                "backward: nothing was kept: this pass has served a backward; call forward first, "
                "once for each"
            )
        module = self._module()
        if module is not None and module._guard.written_here():
            raise RuntimeError(
                "backward: these weights are just being changed; leave changing_weights or "
                "writable_params first"
            )
        if module is None or self._version != module._version:
            raise RuntimeError(
                "backward: the weights have changed since forward; call backward first, then "
                "change them"
            )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a pass cannot be copied or pickled: it serves one backward; run forward again"
        )

    def use_up(self) -> None:
        """Serve no more; what it held is free."""
        self._used = True
        for name in [name for name in self.__dict__ if name not in ("_module", "_used")]:
            del self.__dict__[name]


K = TypeVar("K", bound=Kept)


def remember(module: Module, kept: Any) -> None:
    """Keep a pass as the last one of this module on this thread; None: there is none."""
    module._last.kept = kept


def find(module: Module, kept: K | None, kind: type[K]) -> K:
    """Return the given pass, or the last one of this thread, if a backward may use it.

    Raises
    ------
    RuntimeError
        If there is none, it has served, or the weights have changed.
    TypeError, ValueError
        If `kept` is something else, or of another module.
    """
    if kept is None:
        kept = getattr(module._last, "kept", None)
        if kept is None:
            raise RuntimeError(
                "backward: nothing was kept; call forward first, once for each, on the same thread"
            )
    elif not isinstance(kept, Kept):
        raise TypeError(
            f"kept: expected what forward(..., keep=True) returned, got {type(kept).__name__}"
        )
    if kept._module() is not module or not isinstance(kept, kind):
        raise ValueError("kept: expected a pass of this module, got one of another")
    kept.check()
    return kept
