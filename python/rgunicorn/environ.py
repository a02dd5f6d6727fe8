"""The makers of environs for programs that call an application themselves; the server makes its own natively."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from rgunicorn._names import refuse
from rgunicorn._rgunicorn import FileWrapper
from rgunicorn.compat import names

if TYPE_CHECKING:
    from rgunicorn.config import Config


class WSGIErrorsWrapper(io.RawIOBase):
    """A stream for ``wsgi.errors`` that writes to where the error log goes."""

    def __init__(self, cfg: Config) -> None:
        handlers = logging.getLogger("gunicorn.error").handlers
        found = [getattr(handler, "stream", None) for handler in handlers]
        self.streams: list[Any] = [stream for stream in found if stream is not None]
        if cfg.errorlog == "-" and sys.stderr not in self.streams:
            self.streams.append(sys.stderr)

    def write(self, data: Any) -> int:
        """Write a text, and flush."""
        for stream in self.streams:
            stream.write(data)
            stream.flush()
        return len(data)


def base_environ(cfg: Config) -> dict[str, Any]:
    """Return the keys of an environ that are the same for all requests."""
    return {
        "SERVER_SOFTWARE": names()[1],
        "wsgi.errors": WSGIErrorsWrapper(cfg),
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": cfg.workers > 1,
        "wsgi.multithread": False,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }


def default_environ(req: Any, sock: Any, cfg: Config) -> dict[str, Any]:
    """Return these, and those of a request's line, body and connection."""
    major, minor = req.version
    return base_environ(cfg) | {
        "QUERY_STRING": req.query,
        "RAW_URI": req.uri,
        "REQUEST_METHOD": req.method,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
        "gunicorn.socket": sock,
        "wsgi.input": req.body,
    }


def proxy_environ(req: Any) -> dict[str, str]:
    """Return the keys that a PROXY header adds; none without one."""
    info = req.proxy_protocol_info
    if not info:
        return {}
    return {
        "PROXY_ADDR": info["proxy_addr"],
        "PROXY_PORT": str(info["proxy_port"]),
        "PROXY_PROTOCOL": info["proxy_protocol"],
        "REMOTE_ADDR": info["client_addr"],
        "REMOTE_PORT": str(info["client_port"]),
    }


def create(req: Any, sock: Any, client: Any, server: Any, cfg: Any) -> NoReturn:
    """Refuse: only the server makes a request's whole environ, and its response."""
    refuse("gunicorn.http.wsgi.create", "The application gets the environ; default_environ makes a part of one.")
