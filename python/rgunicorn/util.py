"""Helpers that configuration files and embedding programs import."""

from __future__ import annotations

import importlib
import inspect
import os
import random
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from rgunicorn import _rgunicorn
from rgunicorn.workers import WORKER_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from wsgiref.types import WSGIApplication

#: Where to listen: (host, port), the path of a unix socket, or a descriptor.
Address = tuple[str, int] | str | int


def import_object(path: str) -> Any:
    """Return the object of a dotted path, ``package.module.name`` or ``package.module:name``."""
    parts = path.replace(":", ".").split(".")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"{path!r} is not a dotted path")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # The name may be that of an attribute; a module that misses another one is to say so.
            if count == 1 or not module.startswith(error.name or module):
                raise
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ValueError(f"{path!r} is not a dotted path")


def parse_address(netloc: str, default_port: str = "8000") -> Address:
    """Return an address as Python's `socket` wants it: (host, port), a path, or the number of a descriptor."""
    for prefix in ("unix://", "unix:"):
        if netloc.startswith(prefix):
            return netloc[len(prefix) :]
    if netloc.startswith("fd://"):
        number = netloc[len("fd://") :]
        try:
            return int(number)
        except ValueError:
            raise RuntimeError(f"{number!r} is not a valid file descriptor.") from None
    text = netloc.removeprefix("tcp://")
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    port = port or default_port
    if not port.isdigit():
        raise RuntimeError(f"{port!r} is not a valid port number.")
    return (host.lower() or "0.0.0.0", int(port))


def is_ipv6(addr: str) -> bool:
    """Return whether a text is an IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6, addr)
    except (OSError, ValueError):
        return False
    return True


def getcwd() -> str:
    """Return the working directory, as `PWD` spells it if that is the same."""
    here = os.getcwd()
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.samefile(named, here) else here
    except OSError:
        return here


def import_app(module: str) -> WSGIApplication:
    """Load the application of ``MODULE:EXPR``."""
    return _rgunicorn._load_app(module)


def load_class(
    uri: type[Any] | str, default: str = "gunicorn.workers.sync.SyncWorker", section: str = "gunicorn.workers"
) -> Any:
    """Return a class: given as one, by its dotted path, by ``egg:PACKAGE#NAME``, or by the name of a worker type.

    Raises `RuntimeError` for what cannot be imported, `AttributeError` for a module without the class.
    """
    if isinstance(uri, type):
        return uri
    if uri in WORKER_CLASSES:
        return WORKER_CLASSES[uri]
    module, _, name = uri.rpartition(".")
    try:
        if uri.startswith("egg:"):
            package, _, entry = uri.removeprefix("egg:").partition("#")
            return load_entry_point(package, section, entry or default)
        if not module:
            return load_entry_point("rgunicorn", section, uri)
        found = importlib.import_module(module)
    except Exception as error:
        raise RuntimeError(f"no class {uri!r}: {error}") from error
    return getattr(found, name)


def load_entry_point(distribution: str, group: str, name: str) -> Any:
    """Return the object of an entry point of an installed package; raises `ImportError` if there is none."""
    # Few programs name classes so, and a worker need not have the module.
    from importlib.metadata import distribution as find  # noqa: PLC0415

    for entry in find(distribution).entry_points:
        if (entry.group, entry.name) == (group, name):
            return entry.load()
    raise ImportError(f"{distribution!r} has no entry point {name!r} in {group!r}")


def get_arity(f: Callable[..., Any]) -> int:
    """Count the named positional parameters of a callable."""
    parameters = inspect.signature(f).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in parameters)


def to_bytestring(value: str | bytes, encoding: str = "utf-8") -> bytes:
    """Encode text; bytes stay as they are. Raises `TypeError` for anything else."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value.encode(encoding)


def http_date(timestamp: float | None = None) -> str:
    """Format a time as HTTP headers show it."""
    # The server makes its dates itself, and a worker need not have the module.
    from email.utils import formatdate  # noqa: PLC0415

    return formatdate(timestamp, localtime=False, usegmt=True)


def bytes_to_str(value: str | bytes) -> str:
    """Decode bytes, one code point each; text stays as it is."""
    return value if isinstance(value, str) else value.decode("latin-1")


def close_on_exec(fd: int) -> None:
    """Keep the descriptor from programs that this one executes."""
    os.set_inheritable(fd, False)


def daemonize(enable_stdio_inheritance: bool = False) -> None:
    """Refuse: `daemon = True` or `--daemon` does it, at the one moment when it can be done."""
    raise NotImplementedError("use the setting daemon")


def _setproctitle(title: str) -> None:
    """Name the process, as the server names its own, where the package `setproctitle` is installed."""
    try:
        # It may be missing, and copies the environment when it is imported.
        from setproctitle import setproctitle  # noqa: PLC0415
    except ImportError:
        return
    setproctitle(f"rgunicorn: {title}")


def warn(msg: str) -> None:
    """Write a warning of one or more lines to the standard error, framed by exclamation marks."""
    lines = ["", *f"WARNING: {msg}".splitlines(), ""]
    text = "".join(f"!!! {line}".rstrip() + "\n" for line in lines)
    print(text, file=sys.stderr, flush=True)


def seed() -> None:
    """Make Python's random numbers others than those of the sibling processes."""
    random.seed(os.urandom(64))


def reraise(tp: type[BaseException], value: BaseException | None, tb: TracebackType | None = None) -> NoReturn:
    """Raise an exception with a traceback; without a value, a new one of the type."""
    raise (tp() if value is None else value).with_traceback(tb)


def is_glob_pattern(value: str) -> bool:
    """Return whether a path is a pattern."""
    return any(mark in value for mark in "*?[")
