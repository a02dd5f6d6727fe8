"""Types of the native module. ``ci/check.sh`` compares this file with the built module (mypy's stubtest)."""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike, stat_result
from types import TracebackType
from typing import Any, Final, Never, Self, TypeAlias, final
from wsgiref.types import WSGIApplication

from typing_extensions import disjoint_base

__all__ = [
    "ClientDisconnected",
    "EarlyHints",
    "ErrorStream",
    "FileWrapper",
    "Input",
    "Loop",
    "RequestBodyError",
    "RequestHandle",
    "StartResponse",
    "WorkerHandle",
    "Write",
    "__version__",
    "_check_setting",
    "_hook_arities",
    "_instances",
    "_load_app",
    "_open_log_file",
    "_run_app",
    "_settings_table",
    "_take_socket",
    "async_",
    "callback",
    "check",
    "child",
    "fork",
    "idle",
    "io",
    "main",
    "prepare",
    "signal",
    "stat",
    "timer",
    "watcher",
]

__version__: Final[str]

def main(argv: list[str]) -> int:
    """Run the server until it stops.

    ``argv`` is the command line without the program's name (``sys.argv[1:]``). Returns the exit status that the
    process has to leave with: 0 after a graceful stop, 1 for a wrong setting or configuration, 2 for a wrong command
    line, 3 when a worker cannot boot, 4 when the application cannot be loaded. Messages are already on stderr.
    """

def _instances(class_: type[Any]) -> list[Any]:
    """Return every object of a class and of those below it that the collector knows; no code of theirs runs."""

def _open_log_file(path: str | PathLike[str], user: int | None, group: int | None) -> int:
    """Open a log file for appending and give it to an account; return a descriptor that the caller owns."""

@final
class RequestHandle:
    """What an unborn ``gunicorn.socket`` leads to its request by."""

def _take_socket(handle: RequestHandle) -> tuple[int, bytes]:
    """Detach a connection: a descriptor that the caller owns, and the bytes received and not used."""

@disjoint_base
class FileWrapper:
    """``wsgi.file_wrapper``: blocks of a file-like object; around a real file it leaves by sendfile(2)."""

    def __new__(cls, filelike: Any, blksize: int = 8192) -> Self: ...
    @property
    def filelike(self) -> Any: ...
    @property
    def blksize(self) -> int: ...
    @property
    def close(self) -> Callable[[], object]: ...
    def __getitem__(self, _key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...

@final
class Input:
    """``wsgi.input``."""

    def read(self, size: int | None = None) -> bytes: ...
    def readline(self, size: int | None = None) -> bytes: ...
    def readlines(self, hint: int | None = None) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

class RequestBodyError(OSError):
    """A request body whose rest cannot be read. ``status``: that of the answer that the server would give."""

    status: int

@final
class ErrorStream:
    """``wsgi.errors``."""

    def write(self, text: str) -> None: ...
    def writelines(self, lines: Iterable[str]) -> None: ...
    def flush(self) -> None: ...

@final
class WorkerHandle:
    """A worker's side of what hooks may change."""

    alive: bool
    requests: int

    def notify(self) -> None: ...
    def last_beat(self) -> float: ...

@final
class ClientDisconnected:
    """``rgunicorn.client_disconnected``, without arguments: whether the client has left."""

    def __call__(self, *args: Never, **kwargs: Never) -> bool: ...

@final
class EarlyHints:
    """``wsgi.early_hints``, which sends a 103 answer with these headers."""

    def __call__(self, headers: Iterable[tuple[str, str]]) -> None: ...

@final
class StartResponse:
    """The ``start_response`` of one request."""

    def __call__(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None = None,
    ) -> Write: ...

@final
class Write:
    """The ``write`` that ``start_response`` returns."""

    def __call__(self, data: bytes) -> None: ...

# gevent's loop, which `rgunicorn.gevent` offers under the names that gevent's own loops have.

_Call: TypeAlias = Callable[..., object]

@final
class callback:
    """A call that `Loop.run_callback` has queued. True until it is over."""

    def __new__(cls, callback: _Call, args: tuple[Any, ...]) -> Self: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    @property
    def pending(self) -> bool: ...
    @property
    def callback(self) -> _Call | None: ...
    @property
    def args(self) -> tuple[Any, ...] | None: ...
    def __bool__(self) -> bool: ...

@disjoint_base
class watcher:
    """The base of a loop's watchers, which the loop's methods make."""

    callback: _Call | None
    args: tuple[Any, ...] | None
    ref: bool
    priority: int
    @property
    def active(self) -> bool: ...
    @property
    def pending(self) -> bool: ...
    @property
    def loop(self) -> Loop: ...
    def start(self, callback: _Call, *args: Any) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def feed(self, revents: int, callback: _Call, *args: Any) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        _type: type[BaseException] | None = None,
        _value: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None: ...
    def _format(self) -> str: ...

@final
class io(watcher):
    """A descriptor that is readable or writable."""

    fd: int
    events: int
    @property
    def events_str(self) -> str: ...
    def start(self, callback: _Call, *args: Any, pass_events: bool = False) -> None: ...

@final
class timer(watcher):
    """A point in time, once or again and again."""

    @property
    def at(self) -> float: ...
    def start(self, callback: _Call, *args: Any, update: bool | None = None) -> None: ...
    def again(self, callback: _Call, *args: Any, update: bool | None = True) -> None: ...

@final
class signal(watcher):
    """A signal of the process."""

@final
class child(watcher):
    """A child process that has ended."""

    rpid: int
    rstatus: int
    @property
    def pid(self) -> int: ...

@final
class stat(watcher):
    """A file that changes, appears or goes."""

    @property
    def path(self) -> str | bytes | PathLike[Any]: ...
    @property
    def _paths(self) -> bytes: ...
    @property
    def interval(self) -> float: ...
    @property
    def attr(self) -> stat_result | None: ...
    @property
    def prev(self) -> stat_result | None: ...

@final
class async_(watcher):
    """An event that other threads may send."""

    def send(self) -> None: ...
    def send_ignoring_arg(self, _ignored: object) -> None: ...

@final
class fork(watcher):
    """A fork, in the child."""

@final
class prepare(watcher):
    """The time before a wait."""

@final
class check(watcher):
    """The end of a wait."""

@final
class idle(watcher):
    """A turn in which nothing else has happened."""

# In the class below these names are its methods.
_Async: TypeAlias = async_
_Callback: TypeAlias = callback
_Check: TypeAlias = check
_Child: TypeAlias = child
_Fork: TypeAlias = fork
_Idle: TypeAlias = idle
_Io: TypeAlias = io
_Prepare: TypeAlias = prepare
_Signal: TypeAlias = signal
_Stat: TypeAlias = stat
_Timer: TypeAlias = timer

@disjoint_base
class Loop:
    """gevent's event loop."""

    error_handler: Any
    def __new__(cls, flags: int | str | list[str] | None = None, default: bool | None = None) -> Self: ...
    @property
    def MAXPRI(self) -> int: ...
    @property
    def MINPRI(self) -> int: ...
    @property
    def WatcherType(self) -> type[watcher]: ...
    @property
    def activecnt(self) -> int: ...
    @property
    def approx_timer_resolution(self) -> float: ...
    @property
    def backend(self) -> str: ...
    @property
    def backend_int(self) -> int: ...
    @property
    def default(self) -> bool: ...
    @property
    def depth(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def origflags(self) -> list[str]: ...
    @property
    def origflags_int(self) -> int: ...
    @property
    def pendingcnt(self) -> int: ...
    @property
    def ptr(self) -> int: ...
    def run(self, nowait: bool = False, once: bool = False) -> None: ...
    def run_callback(self, func: _Call, *args: Any) -> _Callback: ...
    def run_callback_threadsafe(self, func: _Call, *args: Any) -> _Callback: ...
    def break_(self, how: int = 1) -> None: ...
    def reinit(self) -> None: ...
    def destroy(self) -> None: ...
    def handle_error(self, context: Any, type: Any, value: Any, tb: Any) -> None: ...
    def now(self) -> float: ...
    def update_now(self) -> None: ...
    def update(self) -> None: ...
    def ref(self) -> None: ...
    def unref(self) -> None: ...
    def verify(self) -> None: ...
    def debug(self) -> list[str]: ...
    def fileno(self) -> int | None: ...
    def closing_fd(self, fd: int) -> bool: ...
    def install_sigchld(self) -> None: ...
    def reset_sigchld(self) -> None: ...
    def io(self, fd: int, events: int, ref: bool = True, priority: int | None = None) -> _Io: ...
    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None) -> _Timer: ...
    def signal(self, signum: int, ref: bool = True, priority: int | None = None) -> _Signal: ...
    def child(self, pid: int, trace: int = 0, ref: bool = True) -> _Child: ...
    def stat(
        self, path: str | bytes | PathLike[Any], interval: float = 0.0, ref: bool = True, priority: int | None = None
    ) -> _Stat: ...
    def async_(self, ref: bool = True, priority: int | None = None) -> _Async: ...
    def fork(self, ref: bool = True, priority: int | None = None) -> _Fork: ...
    def prepare(self, ref: bool = True, priority: int | None = None) -> _Prepare: ...
    def check(self, ref: bool = True, priority: int | None = None) -> _Check: ...
    def idle(self, ref: bool = True, priority: int | None = None) -> _Idle: ...
    def _format(self) -> str: ...

def _check_setting(name: str, value: object) -> Any: ...
def _hook_arities(name: str) -> list[int]: ...
def _load_app(uri: str) -> WSGIApplication: ...
def _run_app(app: object) -> int: ...
def _settings_table() -> list[tuple[str, str, str, list[str], str, str, Any, str]]: ...
