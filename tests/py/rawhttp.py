"""A client that sees bytes: what `http.client` hides is what this suite asserts.

It sends exactly the bytes it is given, in the pieces it is given, and reads one response at a time, keeping the
order of the header fields, every chunk and every interim response. It is strict: a response that is not well
framed is an `AssertionError` in the test that read it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from dataclasses import dataclass, field

# Long enough for a loaded two-core machine, far below the 60 s limit of one test.
TIMEOUT_S = 20.0
# A pause between pieces that makes the kernel hand them over one by one nearly always; no test depends on it.
PIECE_PAUSE_S = 0.002

TcpAddress = tuple[str, int]
Address = TcpAddress | str


@dataclass
class Response:
    """One response as it came over the wire."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    interim: list[Response] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Every value of one header field, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header field that may appear once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} repeated: {values}"
        return values[0] if values else None

    @property
    def names(self) -> list[str]:
        """Header names in wire order and case."""
        return [key for key, _ in self.headers]

    @property
    def chunked(self) -> bool:
        return self.header("Transfer-Encoding") == "chunked"


def request(
    target: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | None = None,
    chunks: list[bytes] | None = None,
    version: str = "HTTP/1.1",
    host: str | None = "example.test",
) -> bytes:
    """The bytes of one request; a `body` brings its Content-Length, `chunks` bring chunked framing."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    if host is not None:
        pairs.insert(0, ("Host", host))
    if body is not None:
        pairs.append(("Content-Length", str(len(body))))
    payload = body or b""
    if chunks is not None:
        pairs.append(("Transfer-Encoding", "chunked"))
        payload = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    head = f"{method} {target} {version}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in pairs) + "\r\n"
    return head.encode("latin-1") + payload


def connect(address: Address, timeout: float = TIMEOUT_S) -> socket.socket:
    """A connected stream socket to a (host, port) pair or a unix path."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock
    sock = socket.create_connection(address, timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    """One connection to a server; use it as a context manager."""

    def __init__(self, address: Address, timeout: float = TIMEOUT_S):
        self.sock = connect(address, timeout)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Vanish: close so that the server gets a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        """Send the pieces one after another, each in its own segment."""
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(PIECE_PAUSE_S)
            self.sock.sendall(piece)

    def shutdown(self) -> None:
        """Say that no more bytes will come."""
        self.sock.shutdown(socket.SHUT_WR)

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def has_input(self) -> bool:
        """Whether something has come, or the end."""
        return bool(self.buffer) or bool(select.select([self.sock], [], [], 0)[0])

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        while mark not in self.buffer:
            assert self._fill(), f"connection closed before {mark!r}; got {self.buffer!r}"
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        parts, missing = [self.buffer], count - len(self.buffer)
        while missing > 0:
            data = self.sock.recv(min(missing, 1 << 20))
            assert data, f"connection closed {missing} bytes early"
            parts.append(data)
            missing -= len(data)
        data = b"".join(parts)
        self.buffer = data[count:]
        return data[:count]

    def rest(self) -> bytes:
        """Everything until the server closes; a reset counts as a close."""
        with contextlib.suppress(ConnectionResetError):
            while self._fill():
                pass
        data, self.buffer = self.buffer, b""
        return data

    def is_closed(self) -> bool:
        """Whether the server has closed, as far as is known; it has nothing to send."""
        timeout = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.sock.settimeout(timeout)

    def assert_closed(self) -> None:
        """The server closes, and sends nothing before."""
        assert self.rest() == b""

    def head(self) -> Response:
        """One status line and its header fields."""
        lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        assert not any("\n" in line or "\r" in line for line in lines), lines
        version, _, rest = lines[0].partition(" ")
        status, _, reason = rest.partition(" ")
        pairs = [line.partition(":") for line in lines[1:]]
        headers = [(key, value.removeprefix(" ")) for key, _, value in pairs]
        assert version.startswith("HTTP/"), lines[0]
        assert len(status) == 3, lines[0]
        return Response(version, int(status), reason, headers)

    def chunk(self) -> bytes:
        """The next chunk's data, b"" for the last."""
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def response(self, method: str = "GET") -> Response:
        """The next final response, whole, with the interim ones before it."""
        interim = []
        while (answer := self.head()).status < 200 and answer.status != 101:
            interim.append(answer)
        answer.interim = interim
        length = answer.header("Content-Length")
        if method == "HEAD" or answer.status in (101, 204, 304):
            return answer
        if answer.chunked:
            while chunk := self.chunk():
                answer.chunks.append(chunk)
            answer.body = b"".join(answer.chunks)
        elif length is not None:
            answer.body = self.exactly(int(length))
        else:
            answer.body = self.rest()
        return answer

    def get(self, target: str = "/", **options) -> Response:
        """Send one request and read its response."""
        self.send(request(target, **options))
        return self.response(options.get("method", "GET"))
