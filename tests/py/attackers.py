"""A hostile client as a process: does one kind of thing as fast as it can, until it is killed.

python attackers.py KIND HOST PORT. It says `ready` when the server has been reached.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from collections.abc import Iterator

GET = b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /partial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TINY = b"1\r\nx\r\n"
MANY = 100
# How long a reader or a sender of these is waited for.
PATIENCE_S = 0.2
# The end of an attack, when what it reads and writes has come to a stand.
ENDS = (ConnectionError, TimeoutError)


class Attack:
    """One way to be hostile: each method gives a step of it at a time."""

    def __init__(self, address: tuple[str, int]):
        self.address = address

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # It is closed by a reset: ports are not used up.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return sock

    def send_all(self, data: bytes, times: int = 1) -> Iterator[None]:
        """Connect and send, until the server does not take it any more."""
        with self.connect() as sock, contextlib.suppress(*ENDS):
            for _ in range(times):
                sock.sendall(data)
                yield
            sock.recv(65536)

    def flood(self, head: bytes, block: bytes) -> Iterator[None]:
        """Send on many connections as fast as the server takes it, whole blocks of it."""
        rests = {}
        for _ in range(MANY):
            sock = self.connect()
            sock.sendall(head)
            sock.setblocking(False)
            rests[sock] = b""
        while rests:
            for sock in select.select([], rests, [], PATIENCE_S)[1]:
                rest = rests[sock] or block
                try:
                    rests[sock] = rest[sock.send(rest) :]
                except ConnectionError:
                    del rests[sock]
            yield

    def tiny_chunks(self):
        return self.send_all(CHUNKED + TINY * 5000, times=100)

    def tiny_chunks_on_many_connections(self):
        return self.flood(CHUNKED, TINY * 5000)

    def large_chunks_on_many_connections(self):
        return self.flood(CHUNKED, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    def tiny_segments(self):
        """Heads in segments of one byte."""
        socks = [self.connect() for _ in range(MANY)]
        with contextlib.suppress(*ENDS):
            for byte in GET:
                for sock in socks:
                    sock.sendall(bytes([byte]))
                yield
            for sock in socks:
                sock.recv(65536)
        for sock in socks:
            sock.close()

    def bad_requests(self):
        return self.send_all(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" * 1000)

    def huge_heads(self):
        fields = b"".join(b"X-%d: %s\r\n" % (index, b"a" * 8000) for index in range(90))
        return self.send_all(b"GET /pid HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n", times=5)

    def huge_heads_of_empty_lines(self):
        return self.send_all(b"\r\n" * 100_000, times=5)

    def uploads(self):
        """Of 16 MB each."""
        head = b"POST /partial HTTP/1.1\r\nHost: a\r\nContent-Length: 16777216\r\n\r\n"
        with self.connect() as sock, contextlib.suppress(*ENDS):
            sock.sendall(head)
            for _ in range(256):
                sock.sendall(b"x" * 65536)
                yield
            sock.recv(65536)

    def slow_readers(self):
        """Large answers, read byte by byte."""
        return self.read_slowly(b"large")

    def slow_readers_of_streams(self):
        return self.read_slowly(b"blocks?n=1000&id=slow")

    def read_slowly(self, target: bytes) -> Iterator[None]:
        """Ask on some connections, and read a byte of each at a time."""
        socks = [self.connect() for _ in range(10)]
        for sock in socks:
            sock.sendall(GET.replace(b"pid", target))
        with contextlib.suppress(*ENDS):
            for _ in range(100):
                for sock in socks:
                    sock.recv(1)
                yield
        for sock in socks:
            sock.close()

    def storm(self):
        """Connect and close."""
        for _ in range(100):
            self.connect().close()
        yield

    def storm_of_requests(self):
        """Connect, ask, and reset."""
        for _ in range(20):
            with self.connect() as sock:
                sock.sendall(GET)
        yield

    def partial_heads(self):
        socks = [self.connect() for _ in range(200)]
        for sock in socks:
            sock.sendall(GET[:-9])
        yield
        for sock in socks:
            sock.close()

    def unread_answers(self):
        """Pipelined requests whose answers are never read."""
        return self.send_all(GET * 1000, times=100)


TOOLS = ("connect", "send_all", "flood", "read_slowly")
KINDS = [name for name in vars(Attack) if not name.startswith("_") and name not in TOOLS]


def main() -> None:
    kind, host, port = sys.argv[1:]
    attack = Attack((host, int(port)))
    attack.connect().close()
    print("ready", flush=True)
    while True:
        # A full backlog is a part of it.
        with contextlib.suppress(*ENDS):
            for _ in getattr(attack, kind)():
                pass


if __name__ == "__main__":
    main()
