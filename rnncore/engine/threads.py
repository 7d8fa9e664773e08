"""How many threads the engine uses: what was set, the processors at hand, a container's quota."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels

MOST_THREADS = 64  # as in src_cython/patience.h
CGROUPS = Path("/sys/fs/cgroup")


class Setting(NamedTuple):
    """A number of threads, and what decided it."""

    threads: int
    reason: str


class Stalls(NamedTuple):
    """How often other work on the processors held the engine up.

    Attributes
    ----------
    stalls
        Times that a thread was put aside by the system while the others needed it, and for so long
        that the engine went on with fewer threads.
    spared
        Passes, or parts of them, that ran with fewer threads than asked for since then.
    """

    stalls: int
    spared: int


def processors() -> int:
    """Return how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(groups: str | None = None, mount: Path = CGROUPS) -> tuple[float, str] | None:
    """Return how many processors' time the container grants, and the file that says so.

    The least of what the process's control group and those above it say: `cpu.max` in version 2,
    `cpu.cfs_quota_us` and `cpu.cfs_period_us` in version 1 (the kernel's admin-guide, cgroup-v2 and
    cgroup-v1/cpusets). None: they grant everything, or there are none.
    """
    if groups is None:
        try:
            groups = os.fsdecode(Path("/proc/self/cgroup").read_bytes())
        except OSError:
            return None
    found: tuple[float, str] | None = None
    for line in groups.splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            top, name = mount, "cpu.max"
        elif "cpu" in names.split(","):
            top, name = mount / "cpu", "cpu.cfs_quota_us"
        else:
            continue
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):  # the path may be one outside of the container
            granted = _granted(folder / name)
            if granted is not None and (found is None or granted < found[0]):
                found = granted, name
            if folder == top:
                break
    return found


def _granted(file: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if file.name == "cpu.max":
            most, period = file.read_text().split()
        else:
            most = file.read_text()
            period = file.with_name("cpu.cfs_period_us").read_text()
        if most != "max" and float(most) > 0:
            return float(most) / float(period)
    return None


def _default() -> Setting:
    text = os.environ.get("RNNCORE_NUM_THREADS")
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
            raise _wrong_threads("RNNCORE_NUM_THREADS", text)
        return Setting(int(text), "RNNCORE_NUM_THREADS")
    threads = min(processors(), MOST_THREADS)
    granted = quota()
    # A part of a processor is left to others: who uses up the quota stands still for the rest of
    # its period, a tenth of a second as a rule.
    if granted is not None and int(granted[0]) < threads:
        return Setting(
            max(1, int(granted[0])),
            f"the container's quota of {granted[0]:g} processors ({granted[1]})",
        )
    return Setting(threads, f"the {processors()} processors that this process may run on")


def _wrong_threads(name: str, came: object) -> ValueError:
    return ValueError(
        f"{name}: expected a whole number of threads from 1 to {MOST_THREADS}, got {came!r}"
    )


_set: Setting | None = None  # by the user
_known: Setting | None = None  # the default, once it was asked for
_team: tuple[Setting, int] | None = None  # for which setting
_always = False
_loaded: list[Kernels] = []


def num_threads() -> Setting:
    """Return how many threads were asked for, and what decided it."""
    global _known
    chosen = _set
    if chosen is not None:
        return chosen
    found = _known
    if found is None:
        found = _known = _default()
    return found


def get_num_threads() -> int:
    """Return how many threads the engine may use.

    The default is `RNNCORE_NUM_THREADS`, or else the processors that this process may run on, or
    the whole ones of a container's quota. It is found out once, and again in a child of fork.
    """
    return num_threads().threads


def set_num_threads(threads: int) -> None:
    """Set how many threads the engine may use; results are the same for any number.

    It uses no more than there are processors to run on, and fewer for a while where the system
    gives these to somebody else.

    Parameters
    ----------
    threads
        1 to 64.

    Raises
    ------
    ValueError
        If `threads` is not such a whole number.

    Examples
    --------
    >>> import rnncore
    >>> before = rnncore.get_num_threads()
    >>> rnncore.set_num_threads(1)
    >>> rnncore.get_num_threads()
    1
    >>> rnncore.set_num_threads(before)
    """
    global _set
    whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= MOST_THREADS:
        raise _wrong_threads("threads", threads)
    _set = Setting(int(threads), "set_num_threads")


def team_size() -> int:
    """Return how many threads share the work: those asked for, as far as there are processors."""
    global _team
    setting, found = num_threads(), _team
    # Another thread may set another number at any moment: what was found is of one setting.
    if found is None or found[0] is not setting:
        threads = setting.threads
        found = _team = setting, threads if _always else min(threads, processors())
    return found[1]


def explain_threads(kernels: Kernels | None = None) -> str:
    """Say in a line how many threads share the work at this moment, and why."""
    threads, reason = num_threads()
    for module in _loaded if kernels is None else [kernels]:
        _, _, limit, forked = module.team_state()
        if forked and team_size() > 1:
            return f"1 of {threads} ({reason}), as this process is a child of fork"
        if 0 < limit < team_size():
            return (
                f"{limit} of {threads} ({reason}) for the moment, as the system had put a thread "
                "aside for other work"
            )
    if team_size() < threads:
        return f"{team_size()} of {threads} ({reason}), as there are no more processors to run on"
    return f"{threads} ({reason})"


def share_always(always: bool) -> None:
    """Use as many threads as are asked for, however few or busy the processors: for tests."""
    global _always, _team
    _always, _team = always, None
    for kernels in _loaded:
        kernels.share_always(always)


def remember(kernels: Kernels) -> None:
    """Count the threads of this module as well."""
    _loaded.append(kernels)
    kernels.share_always(_always)


def count_stalls() -> Stalls:
    """Return how often the engine went on with fewer threads because a processor was busy.

    Examples
    --------
    >>> import rnncore
    >>> rnncore.count_stalls().spared >= 0
    True
    """
    counts = [kernels.team_state() for kernels in _loaded]
    return Stalls(sum(count[0] for count in counts), sum(count[1] for count in counts))


def _forget() -> None:
    global _known, _team
    _known = _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
