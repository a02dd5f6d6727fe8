"""The trace of ``--spew``: every line of Python that is executed."""

from __future__ import annotations

import linecache
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Spew:
    """A trace function: a line of output for each line executed, in the modules named or in all."""

    def __init__(self, trace_names: list[str] | None = None, show_values: bool = True) -> None:
        self.trace_names = trace_names
        self.show_values = show_values

    def __call__(self, frame: FrameType, event: str, arg: object) -> Spew:
        """Show the line if it is about to be executed, and go on tracing."""
        if event == "line":
            self._show(frame)
        return self

    def _show(self, frame: FrameType) -> None:
        name = frame.f_globals.get("__name__", "[unknown]")
        if self.trace_names is not None and name not in self.trace_names:
            return
        number = frame.f_lineno
        line = linecache.getline(frame.f_globals.get("__file__") or frame.f_code.co_filename, number).rstrip()
        out = sys.stdout
        out.write(f"{name}:{number}: {line}\n")
        if self.show_values:
            words = set(frame.f_code.co_names) | set(frame.f_code.co_varnames)
            values = {word: frame.f_locals[word] for word in sorted(words) if word in frame.f_locals}
            if values:
                out.write("\t" + " ".join(f"{word}={value!r}" for word, value in values.items()) + "\n")


def spew(trace_names: list[str] | None = None, show_values: bool = False) -> None:
    """Print every line from now on, in this thread and those that start later."""
    tracer = Spew(trace_names, show_values)
    threading.settrace(tracer)
    sys.settrace(tracer)


def unspew() -> None:
    """End what `spew` has begun."""
    threading.settrace(None)
    sys.settrace(None)
