"""Objects in processes of their own, where the threads of one library cannot disturb another's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

#: Variables that tell a library how many threads it may use, read when it is imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                    "VECLIB_MAXIMUM_THREADS", "RNNCORE_NUM_THREADS", "NPROC")  # fmt: skip


class RemoteError(Exception):
    """A remote object raised, or its process ended."""


class ProcessEnded(RemoteError):
    """There is no remote object any more."""


class Remote:
    """An object of the class `made`, in a process that has so many threads and ends with this one.

    If the process dies, the call that finds out raises, and the next ones go to a new object.
    """

    def __init__(self, threads: int, made: type[Any], *arguments: Any) -> None:
        self.threads, self.made, self.arguments = threads, made, arguments
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.made), daemon=True)
        with mock.patch.dict(os.environ, environment(self.threads)):
            self.process.start()
        theirs.close()  # so that the pipe ends with the process
        self._ask("__init__", self.arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method and return its result."""
        try:
            return self._ask(method, arguments)
        except ProcessEnded:
            self._start()
            raise

    def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            self.connection.send((method, arguments))
            result, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise ProcessEnded(f"its process ended with {self.process.exitcode}") from None
        if error is not None:
            raise RemoteError(error)
        return result

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection, made: type[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the other process, that ends this
    target = object.__new__(made)  # the first call is that of __init__
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:  # the other process closed its end, or is no more
            return
        try:
            answer: tuple[Any, str | None] = getattr(target, method)(*arguments), None
        except Exception as error:
            answer = None, f"{type(error).__name__}: {error}"
        connection.send(answer)


def environment(threads: int) -> dict[str, str]:
    """Return the settings of a process in which nobody uses more threads than these."""
    settings = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}
    # OpenBLAS lets idle threads spin for 2^28 cycles, a tenth of a second; 2^22 are enough between
    # the products of one run.
    settings["OPENBLAS_THREAD_TIMEOUT"] = "22"
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return settings
