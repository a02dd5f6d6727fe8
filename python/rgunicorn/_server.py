"""The objects that hooks are given beside workers: the server (the master), a request, a response.

The native module tells `Server` about each moment at which a hook may run (`_pre_fork`, `_child_exit`, ...), in the
process where Gunicorn runs it; what a hook raises goes back to the native module, which knows what that means.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rgunicorn._names import Names, Unused, refuse
from rgunicorn.app.wsgiapp import WSGIApplication
from rgunicorn.sock import BaseSocket, listener
from rgunicorn.workers import GeventWorker, Worker

if TYPE_CHECKING:
    from rgunicorn._rgunicorn import WorkerHandle
    from rgunicorn.config import Config


class App(WSGIApplication):
    """`worker.app` and `server.app` of a server that was started by its command line, which is read already."""

    def __init__(self, cfg: Config, uri: str | None) -> None:
        # Gunicorn's command line is in there: agents hook that module, and wrap what its class loads.
        importlib.import_module("gunicorn.app.wsgiapp")
        self.app_uri = uri
        self._read = cfg
        super().__init__()

    def do_load_config(self) -> None:
        """Take over the configuration that was read."""
        self.cfg = self._read


class Server:
    """The master. Attributes may be added."""

    def __init__(self, cfg: Config, app: Any, log: Any) -> None:
        self.cfg, self.app, self.log = cfg, app, log
        self.pid = os.getpid()
        #: The master before this one, during an upgrade; 0 otherwise.
        self.master_pid = int(os.environ.get("GUNICORN_PID", "0"))
        self.reexec_pid = 0
        self.systemd = False
        self.pidfile: Any = None
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: list[BaseSocket] = []
        self.START_CTX: dict[Any, Any] = {"args": list(sys.argv), "cwd": os.getcwd(), 0: sys.executable}
        self._num_workers: int = cfg.workers
        #: The number of workers forked so far.
        self.worker_age = 0
        self._describe()
        #: What a hook has asked for by setting `num_workers`; the native module takes it from here.
        self._wanted: int | None = None
        self._coming: dict[int, Worker] = {}
        self._counted_before = -1

    @property
    def num_workers(self) -> int:
        """The number of workers wanted; may be set."""
        return self._num_workers

    @num_workers.setter
    def num_workers(self, value: int) -> None:
        self._num_workers = self._wanted = max(int(value), 0)

    # What hooks and the threads that they start call, to act on the master as an operator would.

    def kill_worker(self, pid: int, sig: int) -> None:
        """Send a signal to a worker; one that has gone is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)

    def kill_workers(self, sig: int) -> None:
        """Send a signal to all workers."""
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def reload(self) -> None:
        """Reload, as HUP does."""
        self._signal(signal.SIGHUP)

    def stop(self, graceful: bool = True) -> None:
        """Stop the server, as TERM does, or QUIT."""
        self._signal(signal.SIGTERM if graceful else signal.SIGQUIT)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop the server. A hook in the master's main thread leaves it with the status; from elsewhere it is 0."""
        if reason is not None:
            self.log.info("Shutting down: %s", self.master_name)
            self.log.info("Reason: %s", reason)
        if exit_status and os.getpid() == self.pid and threading.current_thread() is threading.main_thread():
            sys.exit(exit_status)
        self.stop()

    def wakeup(self) -> None:
        """Have the master look at its workers now; it does so every second."""
        self._signal(signal.SIGCHLD)

    def manage_workers(self) -> None:
        """Have the master fork the workers that are missing, and end those that are too many."""
        self.wakeup()

    def spawn_worker(self) -> None:
        """Do what `manage_workers` does: the number of workers is that of `num_workers`."""
        self.wakeup()

    def _signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    # What follows is called by the native module.

    def _describe(self) -> None:
        """Copy the configuration to attributes; hooks may write to them."""
        # The new master of an upgrade, until the old one has gone.
        suffix = ".2" if self.master_pid else ""
        #: The name in log lines.
        self.master_name = f"Master{suffix}"
        #: The configured addresses.
        self.address = self.cfg.address
        #: Seconds of silence after which a worker is killed.
        self.timeout = self.cfg.timeout
        #: The name in process titles.
        self.proc_name = f"{self.cfg.proc_name}{suffix}"
        #: The class of workers.
        self.worker_class = self.cfg.worker_class
        #: Whether that is none of ours.
        self._is_foreign = not issubclass(self.worker_class, Worker)
        self._worker_cfg = self.cfg
        if self._is_foreign:
            # Only few servers have one.
            from rgunicorn import _foreign  # noqa: PLC0415

            self._worker_cfg = _foreign.config_of(self.cfg)
            _foreign.check(self.worker_class, self._worker_cfg, self.log)
        elif issubclass(self.worker_class, GeventWorker) and isinstance(sys.modules.get("gunicorn"), Names):
            # Agents tell the type of a worker by the modules that are loaded.
            importlib.import_module("gunicorn.workers.ggevent")

    def _take_wanted(self) -> int | None:
        wanted, self._wanted = self._wanted, None
        return wanted

    def _configure(self, cfg: Config, uri: str | None, log: Any) -> None:
        """Take over what a reload has read."""
        self.cfg, self.log = cfg, log
        self.app.cfg = cfg
        if isinstance(self.app, App):
            self.app.app_uri = uri
        self._describe()

    def _listen(self, listeners: list[tuple[int, Any, str]]) -> None:
        self.LISTENERS = [listener(*one) for one in listeners]

    def _nworkers_changed(self, new: int, old: int | None) -> None:
        self._num_workers = new
        self.cfg.nworkers_changed(self, new, old)

    def _counted(self, workers: int) -> None:
        """Send metrics after a pass of the master's loop."""
        gauge = getattr(self.log, "gauge", None)
        if gauge is not None and workers != self._counted_before:
            self._counted_before = workers
            gauge("gunicorn.workers", workers)
        if self.cfg.enable_backlog_metric:
            backlog = sum(max(one.get_backlog(), 0) for one in self.LISTENERS)
            extra = {"metric": "gunicorn.backlog", "value": backlog, "mtype": "histogram"}
            self.log.debug("socket backlog: %d", backlog, extra=extra)

    def _promoted(self) -> None:
        """Note that the old master has gone."""
        self.master_pid = 0
        self._describe()

    def _pre_fork(self, age: int) -> None:
        self.worker_age = age
        cfg = self._worker_cfg
        worker = self.worker_class(age, self.pid, self.LISTENERS, self.app, self.cfg.timeout / 2.0, cfg, self.log)
        self._coming[age] = worker
        self.cfg.pre_fork(self, worker)

    def _forked(self, age: int, pid: int) -> None:
        worker = self._coming.pop(age, None)
        if worker is not None:
            worker.pid = pid
            self.WORKERS[pid] = worker
            if self._is_foreign:
                # A file that its heartbeats would go to, under Gunicorn.
                worker.tmp.close()

    def _aborting(self, pid: int) -> None:
        """Note that a worker has been silent for too long, and is about to get ABRT."""
        if pid in self.WORKERS:
            self.WORKERS[pid].aborted = True

    def _not_forked(self, age: int) -> None:
        self._coming.pop(age, None)

    def _in_worker(self, age: int, handle: WorkerHandle) -> Worker:
        """Return the worker that this process, a child, is."""
        worker = self._coming.pop(age)
        if self._is_foreign:
            # Only few servers have one.
            from rgunicorn import _foreign  # noqa: PLC0415

            worker.sockets = self.LISTENERS
            _foreign.become(worker, handle)
            self.LISTENERS = worker.sockets
            return worker
        worker.pid = os.getpid()
        worker._handle = handle
        Request.cfg = self.cfg
        if worker._nr:
            handle.requests = worker._nr
        return worker

    def _child_exit(self, pid: int) -> None:
        worker = self.WORKERS.pop(pid, None)
        if worker is not None:
            self.cfg.child_exit(self, worker)


class Unreader:
    """The `req.unreader` of a request whose connection is the server's."""

    def read(self, size: int | None = None) -> bytes:
        """Return nothing: the body is read through ``wsgi.input``."""
        return b""

    def unread(self, data: bytes) -> None:
        """Do nothing: the server has read what there is."""


class Body:
    """The `req.body` of a request whose body is the application's."""

    def read(self, size: int | None = None) -> bytes:
        """Return nothing: the body is read through ``wsgi.input``."""
        return b""


class Request:
    """A request, as `pre_request`, `post_request` and loggers see it; the first one's changes change the environ."""

    #: The worker's configuration.
    cfg: Any = None

    def __init__(
        self,
        line: tuple[str, str, str, str, str, tuple[int, int]],
        headers: list[tuple[str, str]],
        peer: tuple[Any, Any],
        scheme: str,
        must_close: bool,
        number: int,
    ) -> None:
        self.method, self.uri, self.path, self.query, self.fragment, self.version = line
        self.headers = headers
        self.trailers: list[tuple[str, str]] = []
        self.body = Body()
        self.unreader = Unreader()
        self.scheme = scheme
        self.remote_addr, self.peer_addr = peer
        self.proxy_protocol_info: Any = None
        self.req_number = number
        self.must_close = must_close
        self._headers_before = list(headers)
        self._scheme_before = scheme

    def force_close(self) -> None:
        """Close the connection after the response."""
        self.must_close = True

    def should_close(self) -> bool:
        """Return whether the connection closes after the response."""
        if self.must_close:
            return True
        for name, value in self.headers:
            if name == "CONNECTION":
                return value.lower().strip(" \t") == "close"
        return self.version <= (1, 0)


class Response(metaclass=Unused):
    """A response, as `post_request` and loggers see it."""

    known_as = "gunicorn.http.wsgi.Response"

    def __init__(
        self,
        status: str,
        headers: list[tuple[str, str]],
        sent: int,
        flags: tuple[bool, bool, bool],
        req: Request | None,
    ) -> None:
        # None: the application has failed before it began one.
        self.status = status or None
        code = status.partition(" ")[0]
        self.status_code = int(code) if code.isdigit() else None
        self.headers = headers
        self.sent = sent
        self.headers_sent, self.chunked, self.must_close = flags
        self.req = req
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.response_length = int(lengths[0]) if lengths and lengths[0].isdigit() else None
        self.upgrade = False

    def force_close(self) -> None:
        """Close the connection after the response."""
        self.must_close = True

    def should_close(self) -> bool:
        """Return whether the connection closes after the response."""
        return self.must_close or self.req is None or self.req.should_close()

    def default_headers(self) -> list[str]:
        """Refuse: the server writes the header fields itself."""
        refuse(f"{self.known_as}.default_headers", "To change the Server header, set gunicorn.SERVER.")

    def write(self, data: bytes) -> None:
        """Do nothing: hooks get the response when it is complete."""
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r} is not a byte")

    def close(self) -> None:
        """Do nothing: it is complete."""


def apply_edits(req: Request, environ: dict[str, Any]) -> None:
    """Apply what `pre_request` has done to the request's headers and scheme to its environ."""
    if req.scheme != req._scheme_before:
        environ["wsgi.url_scheme"] = req.scheme
    if req.headers == req._headers_before:
        return
    for key in [key for key in environ if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")]:
        del environ[key]
    for name, value in req.headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if key in environ and key.startswith("HTTP_"):
            environ[key] = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        else:
            environ[key] = value


def log_access(logger: Any, resp: Any, req: Any, environ: dict[str, Any], microseconds: int) -> None:
    """Write a record of the access log by a logger that is not the server's own."""
    logger.access(resp, req, environ, timedelta(microseconds=microseconds))
