"""Many keep-alive connections from one process: `python crowd.py ADDRESS COUNT PERIOD_S`, driven over stdin.

Every connection sends one request each PERIOD_S, spread evenly over the period. It says `ready` on stdout when every
connection has been answered once. A line on stdin ends the steady load: every connection sends one last request at
once, the crowd says `sent`, reads until the server has closed all of them, and prints a JSON summary:

    answers      complete 200 responses before the line on stdin
    last         complete 200 responses to the last requests
    errors       text of everything else: early closes, resets, other statuses
    last_at      CLOCK_MONOTONIC, in seconds, of the last complete answer
    slowest_s    the longest time from a request to its answer under the steady load
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time

from rawhttp import request

REQUEST = request()
END = b"\r\n\r\nhello"
# Connections opened between two looks at the sockets: below any listen backlog.
BURST = 100
PATIENCE_S = 30.0


class Crowd:
    """The connections by file descriptor, and what became of them."""

    def __init__(self, address: str, count: int, period_s: float):
        self.address, self.count, self.period_s = address, count, period_s
        self.poll = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        self.sent_at: dict[int, float] = {}
        self.partial: dict[int, bytes] = {}
        self.answered: set[int] = set()
        self.answers = self.last = 0
        self.slowest_s = self.last_at = 0.0
        self.errors: list[str] = []
        self.ending = False

    def connect(self) -> None:
        """One more connection, with its first request."""
        if self.address.startswith("/"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address)
        else:
            host, _, port = self.address.rpartition(":")
            sock = socket.create_connection((host, int(port)))
        self.socks[sock.fileno()] = sock
        self.poll.register(sock, select.EPOLLIN)
        self.send(sock.fileno())

    def send(self, fd: int) -> None:
        """One request, unless the connection still waits for an answer."""
        if fd in self.socks and fd not in self.sent_at:
            self.sent_at[fd] = time.monotonic()
            with contextlib.suppress(ConnectionError):
                self.socks[fd].sendall(REQUEST)

    def drop(self, fd: int, why: str) -> None:
        """The connection has ended; that is an error unless it owed us nothing and the end was announced."""
        if fd in self.sent_at or not self.ending:
            self.errors.append(why)
        self.poll.unregister(fd)
        self.socks.pop(fd).close()

    def receive(self, fd: int) -> None:
        """A readable socket: a piece of an answer, the rest of it, or the end."""
        try:
            data = self.socks[fd].recv(4096)
        except ConnectionError as error:
            return self.drop(fd, repr(error))
        if not data:
            return self.drop(fd, "closed" if fd in self.sent_at else "closed while idle")
        now = time.monotonic()
        data = self.partial.pop(fd, b"") + data
        if not data.endswith(END):
            self.partial[fd] = data
            return None
        if fd not in self.sent_at or not data.startswith(b"HTTP/1.1 200 "):
            return self.drop(fd, repr(data))
        since = self.sent_at.pop(fd)
        self.answered.add(fd)
        self.last_at = now
        if self.ending:
            self.last += 1
        else:
            self.answers += 1
            self.slowest_s = max(self.slowest_s, now - since)
        return None

    def turn(self, timeout: float = 0.01) -> None:
        """Read whatever has come."""
        for fd, _ in self.poll.poll(timeout, 1024):
            self.receive(fd)

    def gather(self) -> None:
        """Open all connections and wait for the first answer of each."""
        while len(self.socks) < self.count:
            for _ in range(min(BURST, self.count - len(self.socks))):
                self.connect()
            self.turn()
        deadline = time.monotonic() + PATIENCE_S
        while len(self.answered) < self.count and not self.errors and time.monotonic() < deadline:
            self.turn()

    def steady(self) -> None:
        """Send in turns until a line comes in on stdin."""
        fds, position, begin = list(self.socks), 0, time.monotonic()
        while not select.select([sys.stdin], [], [], 0)[0]:
            due = int((time.monotonic() - begin) / self.period_s * len(fds))
            while position < due:
                self.send(fds[position % len(fds)])
                position += 1
            self.turn()

    def finish(self) -> None:
        """The last request of each, then everything until the server has closed."""
        deadline = time.monotonic() + PATIENCE_S
        while self.sent_at and time.monotonic() < deadline:
            self.turn()
        self.ending = True
        for fd in list(self.socks):
            self.send(fd)
        print("sent", flush=True)
        while self.socks and time.monotonic() < deadline:
            self.turn()
        self.errors += ["never closed"] * len(self.socks)

    def summary(self) -> str:
        return json.dumps(
            {
                "answers": self.answers,
                "last": self.last,
                "errors": self.errors[:20],
                "last_at": self.last_at,
                "slowest_s": self.slowest_s,
            }
        )


def main() -> None:
    crowd = Crowd(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    crowd.gather()
    print("ready", flush=True)
    crowd.steady()
    crowd.finish()
    print(crowd.summary(), flush=True)


if __name__ == "__main__":
    main()
