"""What a server sends, byte by byte: whether an answer is right, and whether a stream comes as one."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, field

from cases import STREAM_ITEMS, Case, Load

ANSWER_S = 10.0
HEAD_BYTES_MAX = 65_536
APART_S = 0.008
"""Pieces that come later than this after the one before were sent apart: the application waits 20 ms between items."""
APART_SHARE_MIN = 0.75
"""A busy machine makes two items arrive at once now and then."""


@dataclass
class Answer:
    """One answer, as it came."""

    status: int
    body: bytes
    chunks: int | None
    """Chunks of its body; `None`: it had no chunks."""
    arrivals_s: list[float] = field(default_factory=list)
    """When pieces of its body came."""

    @property
    def moments(self) -> int:
        """How many times something came that was not sent together with what was before."""
        gaps = zip(self.arrivals_s, self.arrivals_s[1:], strict=False)
        return bool(self.arrivals_s) + sum(later - sooner >= APART_S for sooner, later in gaps)


class Reader:
    """Reads answers from a socket, and notes when their bytes come."""

    def __init__(self, sock: socket.socket):
        sock.settimeout(ANSWER_S)
        self.sock = sock
        self.rest = b""
        self.arrivals_s: list[float] = []

    def more(self) -> bool:
        """Read once; false at the end."""
        piece = self.sock.recv(65_536)
        self.rest += piece
        if piece:
            self.arrivals_s.append(time.monotonic())
        return bool(piece)

    def until(self, end: bytes) -> bytes:
        """Take what is in front of `end`, and that too."""
        while (at := self.rest.find(end)) < 0:
            if len(self.rest) > HEAD_BYTES_MAX or not self.more():
                raise ConnectionResetError("closed before the answer was complete")
        taken, self.rest = self.rest[:at], self.rest[at + len(end) :]
        return taken

    def exactly(self, count: int) -> bytes:
        """Take so many bytes."""
        while len(self.rest) < count:
            if not self.more():
                raise ConnectionResetError("closed before the answer was complete")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def all(self) -> bytes:
        """Take what comes until the connection is closed."""
        while self.more():
            pass
        return self.rest


def answer(reader: Reader) -> Answer:
    """Read an answer to its end."""
    head = reader.until(b"\r\n\r\n").decode("latin-1")
    # What is there already came with the last piece of the head.
    reader.arrivals_s = reader.arrivals_s[-1:] if reader.rest else []
    status = int(head.split(" ", 2)[1])
    if re.search(r"^transfer-encoding: *chunked\r?$", head, re.IGNORECASE | re.MULTILINE):
        pieces = []
        while size := int(reader.until(b"\r\n").partition(b";")[0], 16):
            pieces.append(reader.exactly(size))
            reader.until(b"\r\n")
        reader.until(b"\r\n")
        return Answer(status, b"".join(pieces), len(pieces), reader.arrivals_s)
    length = re.search(r"^content-length: *(\d+)\r?$", head, re.IGNORECASE | re.MULTILINE)
    body = reader.exactly(int(length[1])) if length else reader.all()
    return Answer(status, body, None, reader.arrivals_s)


def ask(sock: socket.socket, request: bytes) -> Answer:
    """Send a request and read its answer."""
    sock.sendall(request)
    return answer(Reader(sock))


def request(load: Load, path: str | None = None) -> bytes:
    """The bytes of one request of a load."""
    lines = [f"{'POST' if load.body_bytes else 'GET'} {path or load.path} HTTP/1.1", "Host: localhost", *load.headers]
    if load.body_bytes:
        lines.append(f"Content-Length: {load.body_bytes}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + b"x" * load.body_bytes


def check(case: Case, is_floor: bool, sock: socket.socket) -> None:
    """Fail unless all that is pipelined is answered as the case wants it; a floor's answers need only be as long."""
    wanted = case.load.pipeline
    reader = Reader(sock)
    sock.sendall(request(case.load) * wanted)
    for number in range(wanted):
        try:
            got = answer(reader)
        except OSError as error:
            # The first one may come too early, while the server starts.
            if number or isinstance(error, TimeoutError):
                raise RuntimeError(f"answers {number} of {wanted} requests: {error}") from error
            raise
        is_right = len(got.body) == case.floor_bytes if is_floor else case.expected(got.body)
        if got.status != 200 or not is_right:
            raise RuntimeError(f"answers with {got.status} and {got.body[:60]!r}")


def joined(quick: Answer, slow: Answer) -> str:
    """Why a streamed answer is none, or nothing.

    `quick` came from an application that gives its items at once, `slow` from one that waits between them.
    """
    if slow.moments < STREAM_ITEMS * APART_SHARE_MIN:
        return f"joins items: {slow.moments} of {STREAM_ITEMS} slow ones came apart"
    # Some in one chunk are a proxy's doing: the application's side has sent them apart.
    return f"joins items: {STREAM_ITEMS} came in one chunk" if quick.chunks == 1 else ""


def look_at_stream(port: int) -> str:
    """Ask for a stream twice, and tell whether it is one."""
    found = []
    for path in ("/", "/slow"):
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as sock:
            found.append(ask(sock, request(Load(), path)))
    return joined(*found)
