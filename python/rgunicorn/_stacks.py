"""The Python stacks of a worker's threads and greenlets, for its log.

`report` runs on a thread of the server's own, or in the handler of ABRT, in the
middle of anything that the application does. So it calls nothing that may be
patched, may lock, or is the application's: no `threading.enumerate`, no `repr`
of an object, no attribute that a subclass may have replaced. It never switches
greenlets, and no frame outlives the call.
"""

from __future__ import annotations

import _thread
import gc
import sys
from types import FunctionType, MethodType

from rgunicorn._rgunicorn import _instances

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

# Frames of one stack, innermost first: middleware and framework take about fifty.
FRAMES_MAX = 100
# Stacks of threads: more than anybody reads.
THREADS_MAX = 100
# Greenlets that are looked at: about a millisecond for a hundred.
GREENLETS_MAX = 2000
# Names of greenlets that wait at the same place.
NAMES_MAX = 5
# Characters in all: a report is one write to the log, and one page or two for a reader.
TEXT_MAX = 64 * 1024

# This module is imported on the worker's main thread, before gevent could replace the function.
_MAIN = _thread.get_ident()


def report() -> str:
    """Return all stacks, at most `TEXT_MAX` characters and a last line that says so; never raise an `Exception`."""
    collects = gc.isenabled()
    # A collection would run finalizers of the application on this thread.
    gc.disable()
    try:
        return _bounded(_parts())
    except Exception as error:
        return f"(the stacks cannot be shown: {type(error).__name__})"
    finally:
        if collects:
            gc.enable()


def _bounded(parts: Iterator[str]) -> str:
    taken: list[str] = []
    left = TEXT_MAX
    for part in parts:
        if len(part) > left:
            taken += [part[:left], f"(the rest is left out: more than {TEXT_MAX} characters)"]
            break
        taken.append(part)
        left -= len(part)
    return "\n".join(taken)


def _parts() -> Iterator[str]:
    yield from _threads()
    # Not imported for this: who does not use greenlets has none.
    if (module := sys.modules.get("greenlet")) is not None:
        yield from _greenlets(module.greenlet)


def _threads() -> Iterator[str]:
    frames = sys._current_frames()
    try:
        left_out = len(frames) - THREADS_MAX
        # The main thread, which runs the loop, comes first.
        for ident in sorted(frames, key=lambda ident: ident != _MAIN)[:THREADS_MAX]:
            # A thread that was only here is the one that reports.
            if stack := _stack(frames[ident]):
                yield "\n".join([f"Thread {ident:#x} ({_thread_name(ident)}), most recent call last:", *stack])
    finally:
        # The frame of this function is among them.
        frames.clear()
    if left_out > 0:
        yield f"({left_out} threads left out)"


def _thread_name(ident: int) -> str:
    if ident == _MAIN:
        return "main thread"
    active = getattr(sys.modules.get("threading"), "_active", {})
    name = getattr(active.get(ident), "_name", None)
    return name if type(name) is str else "unnamed"


def _greenlets(kind: Any) -> Iterator[str]:
    waiting: dict[str, list[str]] = {}
    found = _instances(kind)
    for one in found[:GREENLETS_MAX]:
        # By the base class: a subclass may have other ideas of these.
        if stack := _stack(kind.gr_frame.__get__(one)):
            waiting.setdefault("\n".join(stack), []).append(_greenlet_name(one))
        elif kind.__bool__(one):
            # Started and without a stack of its own: it runs, so its stack is that of its thread.
            yield f"Greenlet {_greenlet_name(one)} is running"
    for text, names in waiting.items():
        more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
        yield f"Suspended: {', '.join(names[:NAMES_MAX])}{more}, most recent call last:\n{text}"
    if len(found) > GREENLETS_MAX:
        yield f"({len(found) - GREENLETS_MAX} greenlets left out)"


def _greenlet_name(one: Any) -> str:
    # gevent keeps the function here. Not its repr, which calls that of every argument.
    run: Any = getattr(one, "__dict__", {}).get("_run")
    function = f": {run.__code__.co_qualname}" if type(run) in (FunctionType, MethodType) else ""
    return f"<{type(one).__name__} at {id(one):#x}{function}>"


def _stack(frame: FrameType | None) -> list[str]:
    """Return the lines of a stack, without those of this file that are innermost."""
    while frame is not None and frame.f_code.co_filename == _stack.__code__.co_filename:
        frame = frame.f_back
    lines: list[str] = []
    while frame is not None and len(lines) < FRAMES_MAX:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}')
        frame = frame.f_back
    if frame is not None:
        lines.append("  (outer frames left out)")
    lines.reverse()
    return lines
