"""Helpers that configuration files and embedding programs import."""

from __future__ import annotations

import importlib
import os
import socket
from typing import TYPE_CHECKING, Any

from rgunicorn import _rgunicorn

if TYPE_CHECKING:
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
        return int(netloc[len("fd://") :])
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


def load_class(uri: type[Any] | str, default: str = "", section: str = "") -> Any:
    """Return a class that is given as one, or by its dotted path."""
    return uri if isinstance(uri, type) else import_object(uri)


def to_bytestring(value: str | bytes, encoding: str = "utf-8") -> bytes:
    """Encode text; bytes stay as they are."""
    return value.encode(encoding) if isinstance(value, str) else value


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
