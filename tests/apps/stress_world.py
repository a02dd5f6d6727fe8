"""What the stress tests of the stack rule share: who is alive, what was found, and C functions with data in frames.

They run something else in their middle; their results show whether the data was left alone. See `stress_greenlets`.
"""

import contextlib
import ctypes
import functools
import os
import random
import sys
import traceback
import weakref
from collections import Counter

import gevent
import gevent.pool
from greenlet import GreenletExit, getcurrent

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
ALIVE = 150
libc = ctypes.PyDLL(None)
COMPARE = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))


class Boom(Exception):
    """What is thrown here. Whatever else arrives anywhere is a finding."""


class World:
    """What all greenlets share."""

    def __init__(self, seed=SEED):
        self.hub = gevent.get_hub()
        self.loop = self.hub.loop
        self.hub.handle_error = self.on_error
        sys.unraisablehook = self.on_unraisable
        # For what happens in callbacks.
        self.random = random.Random(f"{seed}:hub")
        self.findings = []
        self.counts = Counter()
        self.pool = gevent.pool.Pool(ALIVE)
        # Who may be killed at any moment.
        self.greenlets = self.pool.greenlets
        # Started by one greenlet, and left to be stopped by anybody.
        self.orphans = []
        self.watchers = weakref.WeakSet()
        self.depth = 0
        self.children = 0

    def find(self, text):
        """Something is wrong."""
        self.findings.append(text)

    def on_error(self, context, kind, value, tb):
        self.counts[f"error {kind.__name__}"] += 1
        if not issubclass(kind, (Boom, gevent.Timeout, GreenletExit)):
            self.find(f"error in {context!r}:\n{''.join(traceback.format_exception(kind, value, tb))}")

    def on_unraisable(self, event):
        self.counts[f"unraisable {event.exc_type.__name__}"] += 1
        if not issubclass(event.exc_type, (Boom, gevent.Timeout, GreenletExit)):
            text = "".join(traceback.format_exception(event.exc_type, event.exc_value, event.exc_traceback))
            self.find(f"unraisable in {event.object!r}:\n{text}")

    def known(self, watcher):
        """A watcher that must not be left over."""
        with contextlib.suppress(TypeError):  # libev's cannot be referenced weakly.
            self.watchers.add(watcher)
        return watcher

    def orphan(self):
        """A watcher to be stopped."""
        # Whatever runs between two calls may have taken the last one.
        with contextlib.suppress(IndexError):
            return self.orphans.pop(0)
        return None

    def victim(self):
        """Any greenlet but the running one."""
        others = [other for other in self.greenlets if other is not getcurrent()]
        return self.random.choice(others) if others else None


# Data in C frames.


class Item:
    """Compares, and does something else now and then. `sorted` has pointers to such items in its frame only."""

    __slots__ = ("value", "visit")

    def __init__(self, value, visit):
        self.value = value
        self.visit = visit

    def __lt__(self, other):
        self.visit()
        return self.value < other.value


def occasionally(rng, times, calls, inner):
    """A function that calls `inner` at about `times` of about so many calls."""
    left = [times]

    def visit():
        if left[0] and rng.random() * calls < times:
            left[0] -= 1
            inner()

    return visit


def in_sort(world, rng, inner):
    count = rng.randrange(70, 250)
    values = sorted(rng.randrange(10_000) for _ in range(count))
    # Two runs that interleave: merged, and not inserted one by one.
    shuffled = values[::2] + values[1::2]
    visit = occasionally(rng, 2, count, inner)
    found = [item.value for item in sorted([Item(value, visit) for value in shuffled])]
    if found != values:
        world.find(f"sorted() gave {found} for {shuffled}")


def in_qsort(world, rng, inner):
    count = rng.randrange(10, 200)
    values = [rng.randrange(-10_000, 10_000) for _ in range(count)]
    array = (ctypes.c_int * count)(*values)
    visit, thrown = occasionally(rng, 2, 5 * count, inner), []

    def compare(one, other):
        try:
            if not thrown:
                visit()
        except BaseException as error:  # C knows no exceptions.
            thrown.append(error)
        return one[0] - other[0]

    libc.qsort(array, count, ctypes.sizeof(ctypes.c_int), COMPARE(compare))
    if list(array) != sorted(values):
        world.find(f"qsort() gave {list(array)} for {values}")
    if thrown:
        raise thrown[0]


def in_depth(world, rng, inner):
    """Frames of the interpreter, and a value in each of them."""

    def down(levels):
        if not levels:
            inner()
            return 0
        return levels + next(map(down, (levels - 1,)))

    levels = rng.randrange(1, 25)
    if (found := down(levels)) != levels * (levels + 1) // 2:
        world.find(f"depth {levels} gave {found}")


def in_reduce(world, rng, inner):
    visit = occasionally(rng, 2, 40, inner)

    def add(total, value):
        visit()
        return total + value

    if (found := functools.reduce(add, range(40))) != 780:
        world.find(f"reduce() gave {found}")


def in_nothing(_world, _rng, inner):
    inner()


def somewhere(world, rng, inner):
    """Calls `inner` from within C functions that keep data in their frames."""
    rng.choice((in_sort, in_qsort, in_depth, in_reduce, in_nothing, in_nothing))(world, rng, inner)
