"""Workers as hooks see them, and the table of their classes."""

from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING, Any

from rgunicorn._names import Unused, unused

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import FrameType

    from rgunicorn._rgunicorn import ServedApp, WorkerHandle
    from rgunicorn.config import Config
    from rgunicorn.sock import BaseSocket


class Heartbeat:
    """The heartbeat of a worker, `worker.tmp`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._fd: int | None = None

    def notify(self) -> None:
        """Say that the worker is alive."""
        self._worker.notify()

    def last_update(self) -> float:
        """Return when it last said so, on the monotonic clock, in seconds; 0 before."""
        handle = self._worker._handle
        return 0.0 if handle is None else handle.last_beat()

    def fileno(self) -> int:
        """Return a descriptor, for a hook that asks for one: heartbeats are in shared memory."""
        if self._fd is None:
            self._fd = os.memfd_create("heartbeat")
        return self._fd

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class WorkQueue:
    """Requests that wait for a thread."""

    def __init__(self) -> None:
        self._waiting: Callable[[], int] | None = None

    def qsize(self) -> int:
        """Count them."""
        return 0 if self._waiting is None else self._waiting()

    def empty(self) -> bool:
        """Return whether no request waits."""
        return self.qsize() == 0


class ThreadPool:
    """The threads of a worker, as programs look at those of Gunicorn's `gthread`: their number, and what waits."""

    def __init__(self, threads: int) -> None:
        self._max_workers = threads
        self._work_queue = WorkQueue()
        self._threads: set[threading.Thread] = set()


class Worker(metaclass=Unused):
    """A worker, in the master and, as a copy, in its own process. Attributes may be added."""

    known_as = "gunicorn.workers' class"
    # For programs that call them, or put something in their place; the server's workers are native.
    accept, handle, handle_error, handle_request, init_process, init_signals, load_wsgi, run = (
        unused(f"A worker's {name}", "One that is derived from it, as worker_class, has Gunicorn's own.")
        for name in (
            "accept",
            "handle",
            "handle_error",
            "handle_request",
            "init_process",
            "init_signals",
            "load_wsgi",
            "run",
        )
    )

    def __init__(
        self, age: int, ppid: int, sockets: list[BaseSocket], app: Any, timeout: float, cfg: Config, log: Any
    ) -> None:
        self.age, self.ppid, self.timeout = age, ppid, timeout
        self.sockets, self.app, self.cfg, self.log = sockets, app, cfg, log
        self.pid: int | str = "[booting]"
        self.booted = False
        self.aborted = False
        self.reloader: Any = None
        self.tmp = Heartbeat(self)
        self._wsgi: Any = None
        self._served: ServedApp | None = None
        #: None in a worker without threads.
        self.tpool = ThreadPool(cfg.threads) if type(self).__name__ == "ThreadWorker" or cfg.threads > 1 else None
        self._handle: WorkerHandle | None = None
        self._alive = True
        self._nr = 0
        jitter = random.randint(0, cfg.max_requests_jitter)
        self.max_requests: float = cfg.max_requests + jitter if cfg.max_requests else sys.maxsize

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def alive(self) -> bool:
        """Whether the worker goes on; False stops it."""
        return self._alive if self._handle is None else self._handle.alive

    @alive.setter
    def alive(self, value: bool) -> None:
        self._alive = value
        if self._handle is not None:
            self._handle.alive = value

    @property
    def wsgi(self) -> Any:
        """The application; another one gets all requests from then on."""
        return self._wsgi

    @wsgi.setter
    def wsgi(self, value: Any) -> None:
        self._wsgi = value
        if self._served is not None:
            self._served.replace(value)

    @property
    def nr(self) -> int:
        """The number of requests so far; may be set, to be nearer to `max_requests` or farther from it."""
        return self._nr if self._handle is None else self._handle.requests

    @nr.setter
    def nr(self, value: int) -> None:
        self._nr = value
        if self._handle is not None:
            self._handle.requests = value

    @property
    def nr_conns(self) -> int:
        """The number of open connections."""
        return 0 if self._handle is None else self._handle.connections

    def notify(self) -> None:
        """Say that the worker is alive: its time-out begins anew."""
        if self._handle is not None:
            self._handle.notify()

    def is_parent_alive(self) -> bool:
        """Return whether the master that forked this worker is still there."""
        return self.ppid == os.getppid()

    # A worker's process has its signal handlers in the place of these.

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully: the handler of TERM."""
        self.alive = False

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Leave at once: the handler of INT and QUIT."""
        self.alive = False

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """Leave after a time-out: the handler of ABRT."""
        self.alive = False

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """Open the logs again: the handler of USR1."""
        self.log.reopen_files()


class AsyncWorker(Worker):
    """A worker that runs each request in a greenlet."""

    def __init__(
        self, age: int, ppid: int, sockets: list[BaseSocket], app: Any, timeout: float, cfg: Config, log: Any
    ) -> None:
        super().__init__(age, ppid, sockets, app, timeout, cfg, log)
        self.worker_connections = cfg.worker_connections


class GeventWorker(AsyncWorker):
    """A worker of the type `gevent`."""


class SyncWorker(Worker):
    """A worker of the type `sync`."""


class ThreadWorker(Worker):
    """A worker of the type `gthread`."""


class UringWorker(Worker):
    """A worker of the type `uring`."""


#: The classes by worker type; those of other names are added when they are asked for.
WORKER_CLASSES: dict[str, type[Worker]] = {
    "gevent": GeventWorker,
    "gthread": ThreadWorker,
    "sync": SyncWorker,
    "uring": UringWorker,
}


def worker_class(name: str) -> type[Worker]:
    """Return the class of a worker type, or of a dotted path to one; under another name it is as `Worker`."""
    if name not in WORKER_CLASSES:
        title = name.rpartition(".")[2]
        known = [one for one in WORKER_CLASSES.values() if one.__name__ == title]
        WORKER_CLASSES[name] = known[0] if known else type(name, (Worker,), {})
    return WORKER_CLASSES[name]


def own_name(cls: type) -> str | None:
    """Return the worker type that a class stands for; None if it is another class."""
    return next((name for name, own in WORKER_CLASSES.items() if own is cls), None)
