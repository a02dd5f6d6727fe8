"""Helpers around sockets and HTTP that programs import from `gunicorn.util`."""

from __future__ import annotations

import contextlib
import html
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_READ_BYTES = 4096

#: The header fields that are the server's: those of one connection (RFC 9110 section 7.6.1), and two more.
hop_headers = {
    "connection",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "server",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
}


def is_hoppish(header: str) -> bool:
    """Return whether a header field is the server's."""
    return header.strip().lower() in hop_headers


def close(sock: socket.socket) -> None:
    """Close a socket, and forget what fails."""
    with contextlib.suppress(OSError):
        sock.close()


def close_graceful(sock: socket.socket, timeout: float = 2.0, max_drain: int = 65536) -> None:
    """Close a connection so that the peer gets all that was sent: it has `timeout` seconds to close its side.

    What it still sends is read away, up to `max_drain` bytes (RFC 9112 section 9.6).
    """
    until = time.monotonic() + timeout
    with contextlib.closing(sock), contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while max_drain > 0 and (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            got = len(sock.recv(_READ_BYTES))
            if not got:
                break
            max_drain -= got


def write(sock: socket.socket, data: bytes, chunked: bool = False) -> None:
    """Send bytes, as a chunk if that is asked for."""
    if chunked:
        write_chunk(sock, data)
    else:
        sock.sendall(data)


def write_chunk(sock: socket.socket, data: str | bytes) -> None:
    """Send a chunk; no data is the last one."""
    block = data.encode() if isinstance(data, str) else data
    sock.sendall(b"%X\r\n%b\r\n" % (len(block), block))


def write_nonblock(sock: socket.socket, data: bytes, chunked: bool = False) -> None:
    """Send bytes without a wait: what does not fit raises `BlockingIOError`. The socket blocks again afterwards."""
    if sock.gettimeout() == 0:
        write(sock, data, chunked)
        return
    sock.setblocking(False)
    try:
        write(sock, data, chunked)
    finally:
        sock.setblocking(True)


def write_error(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    """Send an error page without a wait; the text is escaped. The connection is left to the caller."""
    page = f"<!doctype html>\n<title>{reason}</title>\n<h1>{reason}</h1>\n<p>{html.escape(mesg)}</p>\n"
    body = page.encode("latin-1", "replace")
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: text/html\r\n"
    write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)


def split_request_uri(uri: str) -> SplitResult:
    """Split the target of a request; slashes at its start are those of a path, and name no host."""
    if not uri.startswith("//"):
        return urlsplit(uri)
    # Behind a segment, they can be nothing else.
    parts = urlsplit(f"/.{uri}")
    return parts._replace(path=parts.path.removeprefix("/."))


def unquote_to_wsgi_str(string: str) -> str:
    """Decode a path's percent signs as PEP 3333 wants it: one code point for each byte."""
    return unquote_to_bytes(string).decode("latin-1")


def has_fileno(obj: Any) -> bool:
    """Return whether an object has a descriptor."""
    try:
        obj.fileno()
    except (AttributeError, OSError):
        return False
    return True


def make_fail_app(msg: str | bytes) -> WSGIApplication:
    """Make an application that answers every request with this text and the status 500."""
    body = msg.encode() if isinstance(msg, str) else msg

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]

    return app
