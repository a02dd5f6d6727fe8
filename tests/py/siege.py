"""Hostile clients of all kinds at once, and what a worker has grown by when they have gone.

    tests/py/siege.py --operations 300000 --servers rgunicorn-uring    (ci/check.sh --long)

An operation is one connection: a bent request, one that is cut, reset, sent or read slowly, a pipeline, a body that is
too large, in tiny chunks or never sent, a PROXY header, an answer that is not waited for, and so on, dozens at a time.
Meanwhile the server is reloaded, gets workers and loses them, and opens its logs anew. After each thousand a good
request is answered. A failure prints the seed; `--seed` plays the same operations again.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import random
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

from mutants import ADDRESS_SANITIZER, MEANT, Mutator, end, size, statuses
from rawhttp import request

APP = "besieged:app"
CROWD = 48
"""Operations at a time."""
GOOD_EVERY = 1_000
PATIENCE_S = 30.0
BODY_BYTES_MAX = 200_000
OPTIONS = (
    "-w", "1", "--access-logfile", "access.log", "--proxy-protocol", "auto",
    "--limit-request-body", str(BODY_BYTES_MAX), "--forwarded-allow-ips", "*",
)  # fmt: skip
BAD_LOG = re.compile(r"panicked|Internal error|WORKER TIMEOUT|was sent SIG|exited with code|Exception ignored")
RESET = struct.pack("ii", 1, 0)
PROXY_HEADERS = [
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n",
    b"PROXY TCP6 ::1 ::2 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
    b"PROXY " + b"x" * 200,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(2000),
    b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
]
GROWTH_MAX_KB = 5_000
"""How much more memory a process may have at the end than after its warm-up: buffers and caches that are kept, each of
which has a bound. Of 200,000 operations, 25 bytes kept by each would be more."""
OBJECTS_GROWTH_MAX = 300
"""How many more objects the worker may have: what is kept for later has a bound."""

Steps = Generator[str | float, None, None]


class Connection:
    """One connection. Its methods yield what they wait for: `r`, `w`, or seconds."""

    def __init__(self, address: tuple[str, int], small: bool):
        self.sock = socket.socket(socket.AF_INET)
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.got = b""

    def send(self, data: bytes) -> Steps:
        """Send all of it."""
        left = memoryview(data)
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                yield "w"

    def receive(self, enough: int | None = None) -> Steps:
        """Read as much, or to the end."""
        while enough is None or len(self.got) < enough:
            try:
                piece = self.sock.recv(65536)
            except BlockingIOError:
                yield "r"
                continue
            if not piece:
                return
            self.got += piece

    def finish(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Make the close a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


class Besieger:
    """The operations, drawn at random."""

    def __init__(self, address: tuple[str, int], seed: int):
        self.address, self.random, self.mutator = address, random.Random(seed), Mutator(seed)
        self.seen: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()

    def next(self) -> tuple[str, Connection, Steps]:
        """One more operation, with its connection."""
        kind = self.random.choice(self.KINDS)
        name = kind.__name__
        self.kinds[name] += 1
        connection = Connection(self.address, small=name in ("read_slowly", "abandon"))
        return name, connection, kind(self, connection)

    def some_request(self) -> bytes:
        """A good request of any kind."""
        body = self.random.randbytes(self.random.choice((0, 1, 100, 5_000)))
        target = self.random.choice(("/", "/echo", "/unread", "/some", "/write", "/raise-close", "/short"))
        if self.random.random() < 0.3:
            return request(target)
        if self.random.random() < 0.5:
            return request(target, method="POST", body=body)
        return request(target, method="POST", chunks=[body[at : at + 700] for at in range(0, len(body), 700)])

    def note(self, connection: Connection, *allowed: int) -> None:
        """Count the statuses of what came; without any, all but 500 are right."""
        found = statuses(connection.got)
        self.seen.update(found)
        wrong = set(found) - set(allowed) if allowed else {500} & set(found)
        assert not wrong or MEANT in connection.got, f"{wrong} in {connection.got[:2000]!r}"

    # The kinds.

    def bent(self, connection: Connection) -> Steps:
        """Nearly a request."""
        yield from connection.send(self.mutator.next())
        connection.finish()
        yield from connection.receive()
        self.note(connection)

    def cut(self, connection: Connection) -> Steps:
        """A part of a request, and a close."""
        text = self.some_request()
        yield from connection.send(text[: self.random.randint(0, len(text))])
        if self.random.random() < 0.5:
            yield self.random.choice((0.0, 0.002))

    def reset(self, connection: Connection) -> Steps:
        """The same, and no good-bye."""
        connection.reset()
        yield from self.cut(connection)

    def reset_late(self, connection: Connection) -> Steps:
        """A request, a part of its answer, and no good-bye."""
        connection.reset()
        yield from connection.send(self.some_request())
        yield from connection.receive(self.random.randint(1, 300))

    def vanish(self, connection: Connection) -> Steps:
        """Nothing at all."""
        if self.random.random() < 0.5:
            connection.reset()
        yield self.random.choice((0.0, 0.001, 0.02))

    def trickle(self, connection: Connection) -> Steps:
        """A request in small pieces."""
        text, at = self.some_request()[:400], 0
        while at < len(text):
            step = self.random.randint(1, 60)
            yield from connection.send(text[at : at + step])
            at += step
            yield 0.001
        connection.finish()
        yield from connection.receive()
        self.note(connection, 200, 400)

    def half_close(self, connection: Connection) -> Steps:
        """A client that sends no more and waits for its answer."""
        yield from connection.send(self.some_request())
        connection.finish()
        yield from connection.receive()
        self.note(connection, 200)
        assert connection.got, "no answer to a client that had sent all"

    def pipeline(self, connection: Connection) -> Steps:
        """Some requests at once, and then the answers, or not."""
        count = self.random.randint(2, 20)
        yield from connection.send(b"".join(request("/") for _ in range(count)))
        if self.random.random() < 0.3:
            return
        connection.finish()
        yield from connection.receive()
        found = statuses(connection.got)
        self.note(connection, 200)
        complete = len(found) == count or b"Connection: close" in connection.got
        assert complete, f"{len(found)} answers to {count} requests: {connection.got[-300:]!r}"

    def too_large(self, connection: Connection) -> Steps:
        """A body beyond the limit, by its length or by its chunks."""
        if self.random.random() < 0.5:
            length = self.random.choice((BODY_BYTES_MAX + 1, 10**9, 10**15, 10**25))
            head = request("/echo", method="POST", headers={"Content-Length": str(length)})
        else:
            head = request("/echo", method="POST", headers={"Transfer-Encoding": "chunked"})
            head += b"%x\r\n" % (2 * BODY_BYTES_MAX)
        yield from connection.send(head)
        with contextlib.suppress(ConnectionError):
            yield from connection.send(bytes(self.random.choice((0, 1_000, 2 * BODY_BYTES_MAX))))
            connection.finish()
        yield from connection.receive()
        self.note(connection, 413, 400)

    def chunk_storm(self, connection: Connection) -> Steps:
        """A body in chunks of one byte, complete or not."""
        head = request("/echo", method="POST", headers={"Transfer-Encoding": "chunked"})
        yield from connection.send(head + b"1\r\nx\r\n" * self.random.randint(1, 3_000))
        if self.random.random() < 0.3:
            return
        yield from connection.send(b"0\r\n\r\n")
        connection.finish()
        yield from connection.receive()
        self.note(connection, 200)

    def proxied(self, connection: Connection) -> Steps:
        """A PROXY header, good or bad, whole or not."""
        header = self.random.choice(PROXY_HEADERS)
        if self.random.random() < 0.3:
            header = header[: self.random.randint(0, len(header))]
        yield from connection.send(header + self.some_request())
        connection.finish()
        yield from connection.receive()
        self.note(connection, 200, 400)

    def expect(self, connection: Connection) -> Steps:
        """A client that asks before it sends, and then sends, or something else, or nothing."""
        headers = {"Expect": "100-continue", "Content-Length": "5000"}
        yield from connection.send(request("/echo", method="POST", headers=headers))
        yield from connection.receive(10)
        if self.random.random() < 0.3:
            return
        yield from connection.send(bytes(self.random.choice((5_000, 5_000, 10))))
        connection.finish()
        yield from connection.receive()
        self.note(connection, 100, 200, 400)

    def upgrade(self, connection: Connection) -> Steps:
        """Another protocol is asked for, and spoken at once."""
        name = self.random.choice(("websocket", "h2c", "TLS/1.0"))
        yield from connection.send(request("/", headers={"Connection": "Upgrade", "Upgrade": name}))
        yield from connection.send(
            self.random.choice((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\0", b""))
        )
        connection.finish()
        yield from connection.receive()
        self.note(connection)

    def read_slowly(self, connection: Connection) -> Steps:
        """A large answer, read in small pieces with pauses, to the end or not."""
        yield from connection.send(request(self.random.choice(("/large", "/file", "/stream?blocks=30"))))
        for _ in range(self.random.randint(1, 12)):
            yield from connection.receive(len(connection.got) + 2_000)
            yield 0.004
        if self.random.random() < 0.5:
            connection.finish()
            yield from connection.receive()
            self.note(connection, 200)

    def abandon(self, connection: Connection) -> Steps:
        """A large answer of which only the beginning is read."""
        if self.random.random() < 0.5:
            connection.reset()
        yield from connection.send(request(self.random.choice(("/large", "/file", "/stream?blocks=200"))))
        yield from connection.receive(self.random.choice((1, 1_000, 20_000)))

    def fail(self, connection: Connection) -> Steps:
        """An application that raises."""
        yield from connection.send(request(self.random.choice(("/raise", "/raise-late"))))
        connection.finish()
        yield from connection.receive()
        self.note(connection, 200, 500)

    KINDS = (
        bent, bent, bent, bent, cut, cut, reset, reset, reset_late, reset_late, vanish, trickle, half_close, pipeline,
        too_large, chunk_storm, proxied, expect, upgrade, read_slowly, abandon, fail,
    )  # fmt: skip


class Siege:
    """Operations in flight."""

    def __init__(self, server, seed: int, log: Callable[[str], None] = lambda text: None):
        self.server, self.seed, self.log = server, seed, log
        self.besieger = Besieger(server.address, seed)
        self.epoll = select.epoll()
        self.waiting: dict[int, tuple[str, Connection, Steps]] = {}
        self.since: dict[int, float] = {}
        self.asleep: list[tuple[float, int, int, tuple[str, Connection, Steps]]] = []
        self.order = itertools.count()
        self.done = 0

    def play(self, count: int) -> None:
        """Run as many operations to their ends."""
        begun, until = 0, self.done + count
        while self.done < until:
            while begun < count and len(self.waiting) < CROWD:
                begun += 1
                entry = self.besieger.next()
                fd = entry[1].sock.fileno()
                self.waiting[fd] = entry
                self.epoll.register(fd, 0)
                self.step(fd)
            pause = max(0.0, min(1.0, self.asleep[0][0] - time.monotonic())) if self.asleep else 1.0
            # Beginning others comes before waiting, where there is room for them.
            for fd, _ in self.epoll.poll(0 if begun < count and len(self.waiting) < CROWD else pause):
                self.step(fd)
            while self.asleep and self.asleep[0][0] <= time.monotonic():
                fd, entry = heapq.heappop(self.asleep)[2:]
                # It may be over: a reset ends a sleep, and the number may be another's by now.
                if self.waiting.get(fd) is entry:
                    self.step(fd)
            self.complain()

    def step(self, fd: int) -> None:
        """Let one operation go on until it waits again, or is over."""
        name, _, steps = self.waiting[fd]
        try:
            wanted = next(steps)
        except (StopIteration, ConnectionError):
            self.over(fd)
            return
        except AssertionError as error:
            raise AssertionError(f"seed {self.seed}, operation {self.done}, {name}: {error}") from None
        if isinstance(wanted, str):
            self.since[fd] = time.monotonic()
            self.epoll.modify(fd, select.EPOLLIN if wanted == "r" else select.EPOLLOUT)
        else:
            self.since.pop(fd, None)
            self.epoll.modify(fd, 0)
            heapq.heappush(self.asleep, (time.monotonic() + wanted, next(self.order), fd, self.waiting[fd]))

    def over(self, fd: int) -> None:
        self.epoll.unregister(fd)
        self.waiting.pop(fd)[1].sock.close()
        self.since.pop(fd, None)
        self.done += 1
        if self.done % GOOD_EVERY == 0:
            self.assert_good()

    def assert_good(self) -> None:
        """Ask as an honest client does."""
        good = self.server.get("/echo", method="POST", body=b"good")
        assert (good.status, good.body) == (200, b"good"), f"seed {self.seed}, after {self.done}: {good}"
        self.log(f"{self.done} operations")

    def complain(self) -> None:
        """Fail if the server has left one of them waiting."""
        late = time.monotonic() - PATIENCE_S
        for fd, since in self.since.items():
            name, connection, _ = self.waiting[fd]
            assert since > late, f"seed {self.seed}: {name} waits for {PATIENCE_S} s, got {connection.got[-200:]!r}"


def held(server) -> dict[str, int]:
    """Memory, descriptors and objects of the one worker, and of the master."""
    (pid,) = server.workers()
    rss, descriptors = size(pid)
    master_rss, master_descriptors = size(server.pid)
    objects = int(server.get("/held").body)
    return {
        "rss": rss, "descriptors": descriptors, "objects": objects,
        "master_rss": master_rss, "master_descriptors": master_descriptors,
    }  # fmt: skip


def at_rest(server, descriptors: int | None = None) -> dict[str, int]:
    """The same, when what lingers has ended."""
    deadline = time.monotonic() + PATIENCE_S
    before = None
    while True:
        now = held(server)
        settled = now["descriptors"] == before if descriptors is None else now["descriptors"] <= descriptors
        if settled or time.monotonic() > deadline:
            return now
        before = now["descriptors"]
        time.sleep(1.0 if descriptors is None else 0.3)


def disturb(server) -> None:
    """Reload the server, give it one more worker, and take one away, in the middle of it all."""
    old = server.workers()
    server.kill(signal.SIGHUP)
    (new,) = server.wait_workers(1, without=old)
    server.kill(signal.SIGTTIN)
    server.wait_workers(2)
    server.kill(signal.SIGTTOU)
    server.wait_workers(1, without=[new])


def besiege(server, count: int, seed: int, log=lambda text: None, *, grows: bool = False) -> str:
    """Play operations against a server. Returns what it held after the warm-up and at the end, as a text.

    A third is the warm-up, in whose middle workers come and go. The memory of a server that `grows` may do so.
    """
    siege = Siege(server, seed, log)
    siege.play(count // 6)
    disturb(server)
    siege.play(count // 6)
    before = at_rest(server)
    for _ in range(4):
        siege.play(count // 6)
        server.kill(signal.SIGUSR1)
    siege.assert_good()
    after = at_rest(server, before["descriptors"])
    told = ", ".join(f"{name} {before[name]} then {after[name]}" for name in before)
    failed = f"seed {seed}: {told}"
    assert after["descriptors"] <= before["descriptors"], failed
    assert after["master_descriptors"] <= before["master_descriptors"], failed
    assert after["objects"] <= before["objects"] + OBJECTS_GROWTH_MAX, failed
    for name in ("rss", "master_rss"):
        assert grows or after[name] <= before[name] + GROWTH_MAX_KB, failed
    assert not (bad := BAD_LOG.search(server.log)), f"seed {seed}: {bad}: {server.log[-2000:]}"
    missed = {kind.__name__ for kind in Besieger.KINDS} - set(siege.besieger.kinds)
    assert not missed, f"never tried: {missed}"
    return f"{told}; statuses {dict(sorted(siege.besieger.seen.items()))}"


def main() -> None:
    """Besiege servers, one after the other."""
    from harness import COOPERATIVE, FLAVOURS, Server  # noqa: PLC0415 - the suite gets by without it

    known = FLAVOURS | {flavour.name: flavour for flavour in COOPERATIVE.values()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--servers", default="rgunicorn-uring", help=f"comma list of {', '.join(known)}")
    parser.add_argument("--sanitizer", help="what to preload of AddressSanitizer; the server is built with it")
    args = parser.parse_args()
    env = {"LD_PRELOAD": args.sanitizer, **ADDRESS_SANITIZER} if args.sanitizer else {}
    for name in args.servers.split(","):
        with tempfile.TemporaryDirectory() as directory:
            server = Server(known[name], Path(directory))
            began = time.monotonic()
            print(f"{name}: {args.operations} operations, seed {args.seed}", flush=True)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                address = probe.getsockname()
            server.start(APP, *OPTIONS, "--log-level", "error", bind=f"127.0.0.1:{address[1]}", at=address, env=env)
            try:
                told = besiege(server, args.operations, args.seed, _progress(began), grows=bool(env))
            finally:
                end(server)
            print(f"{name}: {time.monotonic() - began:.0f} s, {told}", flush=True)


def _progress(began: float):
    told = [began]

    def log(text: str) -> None:
        if time.monotonic() - told[0] > 10:
            told[0] = time.monotonic()
            print(f"  {text}", file=sys.stderr, flush=True)

    return log


if __name__ == "__main__":
    main()
