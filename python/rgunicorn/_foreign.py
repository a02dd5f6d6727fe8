"""Worker classes that others have written for Gunicorn, in a server of ours.

Such a class stands on Gunicorn's own worker code (`gunicorn.workers.base` and what it imports), so it needs the real
package, installed beside this one. The master stays ours, with all that its processes import as `gunicorn`; the class
is looked up among the real modules, and the process of a worker has those alone.

A class of a configuration file is derived from what ``from gunicorn.workers.sync import SyncWorker`` gives there: a
stand-in of `rgunicorn.workers`. Where one is to run, the real class takes the stand-in's place among its bases, and the
stand-in gets its code.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rgunicorn import compat, errors, pywsgi, workers
from rgunicorn._names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from rgunicorn._rgunicorn import HeldSignals, WorkerHandle
    from rgunicorn.sock import BaseSocket

_PACKAGE = "gunicorn"
_EGG = "egg:gunicorn#"
#: Gunicorn's own classes that have no engine of ours, by their short names.
_ALIASES = {
    "gevent_pywsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "tornado": "gunicorn.workers.gtornado.TornadoWorker",
    "asgi": "gunicorn.workers.gasgi.ASGIWorker",
}
_BASE = "gunicorn.workers.base.Worker"
#: The stand-ins that a configuration file may derive a class from, and the real ones.
_STAND_INS: dict[type[Any], str] = {
    workers.Worker: _BASE,
    workers.AsyncWorker: "gunicorn.workers.base_async.AsyncWorker",
    workers.GeventWorker: "gunicorn.workers.ggevent.GeventWorker",
    workers.SyncWorker: "gunicorn.workers.sync.SyncWorker",
    workers.ThreadWorker: "gunicorn.workers.gthread.ThreadWorker",
    pywsgi.GeventPyWSGIWorker: "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    pywsgi.TornadoWorker: "gunicorn.workers.gtornado.TornadoWorker",
}
#: The stand-ins that a class was derived from.
_used: WeakKeyDictionary[type[Any], list[type[Any]]] = WeakKeyDictionary()
#: What stand-ins were, which have the code of the real ones now.
_lent: dict[type[Any], dict[str, Any]] = {}
#: The real modules, while they are not in `sys.modules`.
_modules: dict[str, ModuleType] = {}


class Heartbeat:
    """The heartbeat of such a worker, `worker.tmp`.

    A worker serves from the first beat of its loop on: many classes start their application in there.
    """

    def __init__(self, handle: WorkerHandle) -> None:
        self._handle = handle
        self._fd = os.memfd_create("heartbeat")
        #: The loop is the next thing.
        self.is_ready = False

    def notify(self) -> None:
        """Say that the worker is alive."""
        self._handle.notify()
        if self.is_ready:
            self.is_ready = False
            self.say_serving()

    def say_serving(self) -> None:
        """Say that the worker serves."""
        self._handle.set_booted()
        # Nobody counts its requests. One that has begun to serve has not failed at its start.
        self._handle.requests = max(self._handle.requests, 1)

    def last_update(self) -> float:
        """Return when it last said so, on the monotonic clock, in seconds; 0 before."""
        return self._handle.last_beat()

    def fileno(self) -> int:
        """Return a descriptor, for those who ask for one: heartbeats are in shared memory."""
        return self._fd

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ListeningSocket:
    """A listening socket as Gunicorn's worker code has it: all that a socket has, and a little more.

    On a descriptor of its own, because that code closes it, and the server's stays open.
    """

    def __init__(self, listener: BaseSocket) -> None:
        self.sock = socket.socket(fileno=os.dup(listener.fileno()))
        #: The address that it was configured with.
        self.cfg_addr = listener.getsockname()
        #: The address family.
        self.FAMILY = self.sock.family
        self._text = str(listener)

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        if name == "sock":
            raise AttributeError(name)
        return getattr(self.sock, name)


def load(value: str | type) -> type[Any]:
    """Return the class that `worker_class` names, or is.

    Raises `RuntimeError`, which says why there is none, and what to do.
    """
    shown = value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"
    with _real_package(shown):
        try:
            found = _find(_ALIASES.get(value.removeprefix(_EGG), value)) if isinstance(value, str) else value
        except Exception as error:
            raise RuntimeError(
                f"worker class {shown!r} cannot be loaded: {error}\n\n{traceback.format_exc()}"
            ) from error
        if not isinstance(found, type):
            raise RuntimeError(f"worker class {shown!r} is no class but {found!r}")
        if found in _STAND_INS:
            found = _attribute(_STAND_INS[found])
        _put_upon_real(found)
        if not issubclass(found, _attribute(_BASE)):
            raise RuntimeError(f"worker class {shown!r} is not derived from Gunicorn's {_BASE}")
        setup = getattr(found, "setup", None)
        if setup is not None:
            setup()
    return found


def check(cls: type[Any], cfg: Any, log: Any) -> None:
    """Have the class look at the configuration, as Gunicorn's master does."""
    check_config = getattr(cls, "check_config", None)
    if check_config is not None:
        check_config(cfg, log)


def config_of(cfg: Any) -> Any:
    """Return Gunicorn's own configuration object with the values of `cfg`: its code asks it for more than values."""
    with _real_package("worker_class"):
        real = _attribute("gunicorn.config.Config")()
    for name, setting in cfg.settings.items():
        if name in real.settings and not getattr(setting.value, "_is_default", False):
            real.settings[name].value = setting.value
    return real


def become(worker: Any, handle: WorkerHandle) -> None:
    """Make this process, a child of the master, the one of `worker`: its modules and its heartbeat."""
    names, defaults = compat.names(), (compat.SERVER, compat.SERVER_SOFTWARE)
    _switch_to_real()
    for name, value, default in zip(("SERVER", "SERVER_SOFTWARE"), names, defaults, strict=True):
        # As the configuration has them; Gunicorn's code reads them in two places.
        if value != default:
            for module in ("gunicorn", "gunicorn.http.wsgi"):
                setattr(importlib.import_module(module), name, value)
    with contextlib.suppress(OSError, AttributeError):
        worker.tmp.close()
    worker.tmp = Heartbeat(handle)
    worker.sockets = [ListeningSocket(listener) for listener in worker.sockets]
    worker.pid = os.getpid()


def serve(worker: Any, handle: WorkerHandle, signals: HeldSignals) -> None:
    """Run the worker to its end; what it raises is the caller's.

    `signals`: the master's, held back since the fork, until the class has set its handlers.
    """
    cfg = worker.cfg
    init_signals, post_worker_init = worker.init_signals, cfg.post_worker_init

    def with_signals() -> None:
        init_signals()
        signals.release()

    def with_word(worker: Any) -> None:
        post_worker_init(worker)
        for listener in worker.sockets:
            # Its own ones, with `reuse_port`, have not begun to; for the others it is the same once more.
            listener.listen(cfg.backlog)
        worker.tmp.is_ready = True
        if not cfg.timeout:
            # Who is not watched need not beat.
            worker.tmp.say_serving()

    worker.init_signals = with_signals
    # The last thing that Gunicorn's worker does before its loop.
    cfg.settings["post_worker_init"].value = with_word
    # The account has been changed for good.
    cfg.settings["initgroups"].value = False
    try:
        worker.init_process()
    finally:
        signals.release()


def is_load_error(error: BaseException) -> bool:
    """Tell whether the application was not found: our error, or Gunicorn's own."""
    theirs = getattr(sys.modules.get("gunicorn.errors"), "AppImportError", errors.AppImportError)
    return isinstance(error, (errors.AppImportError, theirs))


def _find(name: str) -> Any:
    """Return what a dotted path, or ``egg:DISTRIBUTION#NAME``, names."""
    if name.startswith("egg:"):
        distribution, _, entry = name.removeprefix("egg:").partition("#")
        entries = importlib.metadata.distribution(distribution).entry_points
        for point in entries.select(group="gunicorn.workers", name=entry or "sync"):
            return point.load()
        raise LookupError(f"{distribution} has no such entry point of the group gunicorn.workers")
    return _attribute(name)


def _attribute(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _real_package(wanted: str) -> Iterator[None]:
    """Have the real package as `gunicorn`, for what is imported meanwhile."""
    if _is_real():
        yield
        return
    ours = _take_modules()
    sys.modules.update(_modules)
    try:
        try:
            importlib.import_module(_PACKAGE)
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"worker class {wanted!r} runs on Gunicorn's own worker code, and gunicorn is not installed beside "
                "rgunicorn (pip install gunicorn)"
            ) from error
        if not _is_real():
            raise RuntimeError(
                f"worker class {wanted!r} runs on Gunicorn's own worker code, and rgunicorn-as-gunicorn is installed "
                "in its place (pip uninstall rgunicorn-as-gunicorn, pip install gunicorn, and start it as rgunicorn)"
            )
        yield
    finally:
        _modules.update(_take_modules())
        sys.modules.update(ours)


def _switch_to_real() -> None:
    if not _is_real():
        _take_modules()
        sys.modules.update(_modules)


def _is_real() -> bool:
    """Tell whether `gunicorn` is the real package already: in a program that had imported it first."""
    return not isinstance(sys.modules.get(_PACKAGE, Names(_PACKAGE)), Names)


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}


def _put_upon_real(cls: type[Any]) -> None:
    """Give Gunicorn's code to a class that was derived from a stand-in."""
    used = _used.setdefault(cls, [one for one in cls.__mro__ if one in _STAND_INS])
    for one in cls.__mro__:
        if one not in _STAND_INS and any(base in _STAND_INS for base in one.__bases__):
            if one.__module__.startswith("rgunicorn."):
                raise RuntimeError(f"{one.__name__} is rgunicorn's own, and native: no class can be derived from it")
            real = [_attribute(_STAND_INS[base]) if base in _STAND_INS else base for base in one.__bases__]
            one.__bases__ = tuple(real)
    for stand_in in used:
        _lend(stand_in)


def _lend(stand_in: type[Any]) -> None:
    """Let `SyncWorker.handle_request(self, ...)`, where the name is that of a stand-in, do what it says."""
    own = dict(vars(stand_in))
    _lent.setdefault(stand_in, own)
    for name, value in vars(_attribute(_STAND_INS[stand_in])).items():
        if not name.startswith("__") or name == "__init__":
            type.__setattr__(stand_in, name, value)


def take_back() -> None:
    """Make the stand-ins what they were: from here on they are the classes of our own workers."""
    while _lent:
        stand_in, own = _lent.popitem()
        for name in set(vars(stand_in)) - set(own):
            type.__delattr__(stand_in, name)
        for name, value in own.items():
            if not name.startswith("__") or name == "__init__":
                type.__setattr__(stand_in, name, value)
