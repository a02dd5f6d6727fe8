"""gevent's event loop on rgunicorn's driver: io_uring, or epoll where that is missing.

A worker uses it by itself. Any other gevent program does with the environment variable
``GEVENT_LOOP=rgunicorn.gevent.Loop``, or with ``gevent.config.loop = "rgunicorn.gevent.Loop"`` before anything of
gevent is used. ``RGUNICORN_IO_DRIVER`` (``auto``, ``uring``, ``epoll``) chooses the driver.
``RGUNICORN_GEVENT_SOCKETS=0`` leaves gevent's sockets as they are.

``gevent.core`` becomes a copy of this module, so the names here are those that programs look for there.
"""

from __future__ import annotations

import os
import sys

from rgunicorn._rgunicorn import (
    Loop,
    __version__,
    _set_gevent_sockets,
    async_,
    callback,
    check,
    child,
    fork,
    idle,
    io,
    prepare,
    signal,
    stat,
    timer,
    watcher,
)

__all__ = [
    "EVENTS",
    "MAXPRI",
    "MINPRI",
    "NONE",
    "READ",
    "READWRITE",
    "WRITE",
    "Loop",
    "async_",
    "callback",
    "check",
    "child",
    "fork",
    "get_header_version",
    "get_version",
    "idle",
    "io",
    "loop",
    "prepare",
    "signal",
    "stat",
    "supported_backends",
    "timer",
    "watcher",
]

NONE = 0
READ = 1
WRITE = 2
READWRITE = READ | WRITE
MINPRI = -2
MAXPRI = 2

_IOFDSET = 0x80


class _EventsType:
    """The type of `EVENTS`, which stands in a watcher's arguments for what has happened."""

    def __repr__(self) -> str:
        return "gevent.core.EVENTS"


EVENTS = _EventsType()

#: The class under the name that gevent's own loops have.
loop = Loop


def get_version() -> str:
    """Return the name and version of what runs the loop."""
    return f"rgunicorn-{__version__}"


def get_header_version() -> str:
    """Return the version that the loop was built with: always the one that runs."""
    return get_version()


def supported_backends() -> list[str]:
    """List the drivers, the preferred one first."""
    return ["uring", "epoll"]


def _events_to_str(events: int) -> str:
    """Return bits by name, as in ``READ|WRITE``; those without a name as a number."""
    names = [name for bit, name in ((READ, "READ"), (WRITE, "WRITE"), (_IOFDSET, "_IOFDSET")) if events & bit]
    rest = events & ~(READWRITE | _IOFDSET)
    if rest or not names:
        names.append(hex(rest))
    return "|".join(names)


def _declare() -> None:
    """Tell zope.interface which of gevent's interfaces the classes have."""
    # Neither has types of its own, and the module is of use without them.
    from gevent._interfaces import ICallback, ILoop  # type: ignore[import-untyped]  # noqa: PLC0415
    from zope.interface import classImplements  # type: ignore[import-untyped]  # noqa: PLC0415

    classImplements(Loop, ILoop)
    classImplements(callback, ICallback)


def _use_sockets() -> None:
    """Give gevent's sockets our methods, unless the environment says otherwise."""
    wanted = os.environ.get("RGUNICORN_GEVENT_SOCKETS") or "1"
    _set_gevent_sockets(wanted.lower() in ("y", "1", "yes", "true"))


if "gevent" in sys.modules:
    _declare()
    _use_sockets()
