"""A steady load of well-behaved clients that verify every answer and retry nothing.

Each client is a thread with one connection at a time. The application is `apps/steady.py`. What a client may not hold
against the server: it closes a connection that was idle for longer than the server promises. So no client sends on a
connection whose last answer (or whose beginning) is older than `FRESH_S`; one that was held up by a busy machine
between that look and the send does not count (`LATE_S`).
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rawhttp import Address, Client, Response, request

# A client's next request comes within this time after the last answer, or on a new connection.
FRESH_S = 0.2
# The server's promise is half a second (`DRAIN_FRESH` in worker/lifecycle.rs); from here on nobody knows.
LATE_S = 0.45
# Pauses of a client between two requests, and between two pieces of an upload.
THINK_S = 0.02
PIECE_S = 0.005
UPLOAD_BYTES = 300_000
PIECE_BYTES = 40_000
STREAM_BLOCKS = 12
PIPELINED = 3
# How long a client that is told to stop may need for the exchange that it is in.
STOP_S = 30.0


class Connection(Client):
    """One connection of a client, and what is known about it."""

    def __init__(self, address: Address):
        # Before: the kernel may have made the connection long before this thread goes on.
        self.opened_at = time.monotonic()
        super().__init__(address)
        self.last_at = time.monotonic()
        # When the first piece of the present request had left.
        self.sent_at: float | None = None
        # Who has answered here last.
        self.pid: int | None = None

    def send(self, *pieces: bytes) -> None:
        super().send(*pieces)
        self.sent_at = self.sent_at or time.monotonic()

    def is_fresh(self, fresh_s: float) -> bool:
        """Whether the server still waits for a request, for sure."""
        return time.monotonic() - self.last_at < fresh_s

    def was_late(self) -> bool:
        """Whether the present request left so late that the server may have closed before it came."""
        return (self.sent_at or time.monotonic()) - self.last_at > LATE_S


@dataclass(frozen=True)
class Failure:
    """A request without its answer."""

    at: float
    # What the client was doing: the name of its kind.
    kind: str
    error: str
    # When its connection was opened, and the worker behind it, if that has answered anything.
    opened_at: float
    pid: int | None


@dataclass
class Tally:
    """What became of all requests."""

    answers: Counter[str] = field(default_factory=Counter)
    by_pid: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    connections: int = 0
    # Clients that were held up for longer than the server waits, and then found their connection closed.
    late: int = 0


Exchange = Callable[[Connection, random.Random], Iterator[Response]]


def echo(connection: Connection, dice: random.Random) -> Iterator[Response]:
    """One small request."""
    token = f"{dice.getrandbits(64):x}"
    answer = connection.get(f"/echo?token={token}")
    assert answer.body == token.encode(), answer
    yield answer


def one_shot(connection: Connection, dice: random.Random) -> Iterator[Response]:
    """A client that wants one answer only."""
    token = f"{dice.getrandbits(64):x}"
    answer = connection.get(f"/echo?token={token}", headers={"Connection": "close"})
    assert answer.body == token.encode(), answer
    assert answer.header("Connection") == "close", answer
    yield answer


def upload(connection: Connection, dice: random.Random) -> Iterator[Response]:
    """A large body in pieces, with its length or in chunks."""
    body = dice.randbytes(dice.randrange(UPLOAD_BYTES // 2, UPLOAD_BYTES))
    pieces = [body[begin : begin + PIECE_BYTES] for begin in range(0, len(body), PIECE_BYTES)]
    if dice.random() < 0.5:
        framing = {"Content-Length": str(len(body))}
    else:
        framing = {"Transfer-Encoding": "chunked"}
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""]]
    connection.send(request("/digest", method="POST", headers=framing))
    for piece in pieces:
        connection.send(piece)
        time.sleep(dice.random() * PIECE_S)
    answer = connection.response("POST")
    assert answer.body == hashlib.sha256(body).hexdigest().encode(), answer
    yield answer


def stream(connection: Connection, dice: random.Random) -> Iterator[Response]:
    """An answer that is made slowly."""
    token = f"{dice.getrandbits(64):x}"
    answer = connection.get(f"/stream?token={token}&n={STREAM_BLOCKS}")
    assert answer.body == b"".join(streamed(token, number) for number in range(STREAM_BLOCKS)), "another body"
    yield answer


def streamed(token: str, number: int) -> bytes:
    """What `/stream` makes, written down a second time."""
    text = f"{token}:{number};".encode()
    return (text * (8192 // len(text) + 1))[:8192]


def pipeline(connection: Connection, dice: random.Random) -> Iterator[Response]:
    """Requests behind each other. Those behind an answer with `Connection: close` are void (RFC 9112 section 9.3.2)."""
    tokens = [f"{dice.getrandbits(64):x}" for _ in range(PIPELINED)]
    connection.send(b"".join(request(f"/echo?token={token}") for token in tokens))
    for token in tokens:
        answer = connection.response()
        assert answer.body == token.encode(), answer
        yield answer
        if answer.header("Connection") == "close":
            return


KINDS: dict[str, Exchange] = {
    "echo": echo,
    "one shot": one_shot,
    "upload": upload,
    "stream": stream,
    "pipeline": pipeline,
}
# How many clients of each kind make a moderate load, for two busy cores.
CLIENTS = {"echo": 6, "one shot": 4, "upload": 2, "stream": 2, "pipeline": 2}


class Load:
    """The clients. A context manager: they begin on entry, and have ended after the exit."""

    def __init__(
        self,
        address: Address,
        clients: dict[str, int] | None = None,
        seed: int = 1,
        fresh_s: float = FRESH_S,
        moves: bool = True,
    ):
        self.address = address
        # A worker that leaves may give its connections to others.
        self.moves = moves
        self.fresh_s = fresh_s
        self.tally = Tally()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        kinds = [kind for kind, count in (clients or CLIENTS).items() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(kind, random.Random(f"{seed} {number}")), name=f"{kind} client")
            for number, kind in enumerate(kinds)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        assert not stuck, f"clients that never came back: {stuck}"

    def answers(self) -> int:
        """How many there were so far."""
        with self._lock:
            return self.tally.answers.total()

    def failures(self) -> list[Failure]:
        """Those so far."""
        with self._lock:
            return list(self.tally.failures)

    def assert_no_failure(self) -> None:
        """Nobody was lost, and every kind of client was served."""
        failures = self.failures()
        assert not failures, f"{len(failures)} of {self.answers()}: {failures[:10]}"

    def _serve(self, kind: str, dice: random.Random) -> None:
        """One client: exchange after exchange, on one connection as long as that may last."""
        connection = None
        for number in itertools.count():
            if self._stop.is_set():
                break
            if number:
                time.sleep(dice.random() * THINK_S)
            if connection and not connection.is_fresh(self.fresh_s):
                connection.close()
                connection = None
            connection = self._exchange(kind, dice, connection)
        if connection:
            connection.close()

    def _exchange(self, kind: str, dice: random.Random, connection: Connection | None) -> Connection | None:
        """One exchange; the connection, if it can be used again."""
        begun_at, answers = time.monotonic(), 0
        try:
            if connection is None:
                connection = Connection(self.address)
                with self._lock:
                    self.tally.connections += 1
            connection.sent_at = None
            for answer in KINDS[kind](connection, dice):
                answers += 1
                self._note(kind, connection, answer)
                if answer.header("Connection") == "close":
                    # A clean end, and nothing before it.
                    rest = connection.buffer + connection.sock.recv(4096)
                    assert rest == b"", f"after the last answer: {rest!r}"
                    connection.close()
                    return None
        except (OSError, AssertionError, ValueError) as error:
            self._fail(kind, connection, begun_at, answers, error)
            if connection:
                connection.close()
            return None
        return connection

    def _note(self, kind: str, connection: Connection, answer: Response) -> None:
        """A complete answer whose body was right."""
        assert answer.status == 200, answer
        pid = int(answer.header("X-Pid") or 0)
        assert self.moves or connection.pid in (None, pid), f"{connection.pid} has become {pid}"
        connection.pid = pid
        connection.last_at = time.monotonic()
        with self._lock:
            self.tally.answers[kind] += 1
            self.tally.by_pid[pid] += 1

    def _fail(
        self, kind: str, connection: Connection | None, begun_at: float, answers: int, error: BaseException
    ) -> None:
        """An exchange that began then went wrong after so many answers."""
        closed = isinstance(error, ConnectionError) or "connection closed before" in str(error)
        with self._lock:
            # Only if nothing of an answer has come: the server must not have begun.
            if closed and not answers and connection and not connection.buffer and connection.was_late():
                self.tally.late += 1
                return
            opened_at, pid = (connection.opened_at, connection.pid) if connection else (begun_at, None)
            self.tally.failures.append(Failure(time.monotonic(), kind, repr(error)[:500], opened_at, pid))
