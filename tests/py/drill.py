"""An operator's drill: workers are reloaded, added, taken away and killed under a load of kept-alive connections.

    tests/py/drill.py --schedules 500 --servers rgunicorn-uring,rgunicorn-epoll   (ci/check.sh --long)
    tests/py/drill.py --steady-s 60 --servers rgunicorn-uring

A schedule is a server of four workers, a crowd of clients and a few acts at random moments. With `--steady-s` there is
one long schedule: clients pause 0 to 3 s between two requests, workers are recycled by `max_requests` all the time, 20
reloads, TTIN and TTOU, and a SIGKILL every 5 s. Clients retry nothing. No request may fail and no connection may end,
but those that a killed worker had alone at that moment. A failure prints the seed; `--seed` draws the same schedule.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import Server, proc_stat, sockets
from load import STREAM_BLOCKS, streamed
from rawhttp import request

APP = "steady:app"
WORKERS = 4
CLIENTS = 40
STEADY_CLIENTS = 200
PATIENCE_S = 30.0
CLOSED_AFTER_S = 0.02
"""A worker that has given a connection closes its own copy long before."""
SCHEDULE_S = (0.5, 1.5)
"""How long a schedule lasts, at least and at most."""
BAD_LOG = re.compile(r"panicked|Internal error|WORKER TIMEOUT|Exception ignored")
READ_BYTES = 65536


@dataclass
class Tally:
    """What became of all requests."""

    answers: int = 0
    pids: set[int] = field(default_factory=set)
    cut: int = 0
    """Connections that ended with a killed worker."""
    failures: list[str] = field(default_factory=list)


class Peer:
    """One kept-alive connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    async def ask(self, data: bytes) -> tuple[str, dict[str, str], bytes]:
        """Send a request; the status line, the fields and the body of its answer."""
        self.writer.write(data)
        await self.writer.drain()
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1")[:-4].split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "content-length" in fields:
            return status, fields, await self.reader.readexactly(int(fields["content-length"]))
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, fields, body


def some_request(dice: random.Random) -> tuple[bytes, bytes]:
    """A request of any kind, and the body of its answer."""
    token, kind = f"{dice.getrandbits(64):x}", dice.random()
    if kind < 0.1:
        body = dice.randbytes(dice.choice((1, 3_000, 100_000)))
        chunks = [body[at : at + 7_000] for at in range(0, len(body), 7_000)]
        framing = {"body": body} if dice.random() < 0.5 else {"chunks": chunks}
        return request("/digest", method="POST", **framing), hashlib.sha256(body).hexdigest().encode()
    if kind < 0.2:
        target = f"/stream?token={token}&n={STREAM_BLOCKS}"
        return request(target), b"".join(streamed(token, number) for number in range(STREAM_BLOCKS))
    pause = dice.choice((0, 0, 0, 0.002, 0.03))
    return request(f"/echo?token={token}&s={pause}"), token.encode()


class Crowd:
    """Clients of one server, each with one connection at a time."""

    def __init__(self, address: tuple[str, int], pause_s: float):
        self.address, self.pause_s = address, pause_s
        self.tally = Tally()
        self.doomed: set[int] = set()
        """The clients' ports of connections that a killed worker had."""
        self.is_over = False

    async def client(self, dice: random.Random) -> None:
        """Ask again and again, on the same connection for as long as it lives."""
        peer, asked = None, b""
        while not self.is_over:
            try:
                peer = peer or Peer(*await asyncio.open_connection(*self.address))
                await self._pause(peer, dice)
                asked, expected = some_request(dice)
                status, fields, body = await asyncio.wait_for(peer.ask(asked), PATIENCE_S)
                if "200" not in status or body != expected:
                    self._fail(f"{asked[:60]!r} was answered with {status!r} and {len(body)} bytes")
                if fields.get("connection") == "close":
                    self._fail(f"{asked[:60]!r}: told to close by {fields.get('x-pid')}")
                self.tally.answers += 1
                self.tally.pids.add(int(fields.get("x-pid", 0)))
            except TimeoutError:
                self._fail(f"{asked[:60]!r}: no answer in {PATIENCE_S} s")
                return
            except (OSError, EOFError) as error:
                if peer is None:
                    self._fail(f"no connection: {error!r}")
                    return
                if peer.port in self.doomed:
                    # A later connection may have the same port.
                    self.doomed.discard(peer.port)
                    self.tally.cut += 1
                else:
                    self._fail(f"port {peer.port}, {asked[:60]!r}: {error!r}")
                peer.writer.close()
                peer = None
        if peer:
            peer.writer.close()

    async def _pause(self, peer: Peer, dice: random.Random) -> None:
        """Wait, and notice if the connection ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            piece = await asyncio.wait_for(peer.reader.read(1), dice.random() * self.pause_s)
            raise EOFError(f"it has ended, with {piece!r}")

    def _fail(self, text: str) -> None:
        self.tally.failures.append(f"{time.strftime('%X')} {text}")


class Operator:
    """The acts of an operator, and of bad luck."""

    def __init__(self, server: Server, crowd: Crowd, dice: random.Random):
        self.server, self.crowd, self.dice = server, crowd, dice
        self.workers = WORKERS
        self.acts: list[str] = []

    def reload(self) -> None:
        self._signal("HUP")

    def resize(self) -> None:
        """One worker more, or one less, of three at least."""
        if self.workers > WORKERS - 1 and self.dice.random() < 0.5:
            self.workers -= 1
            self._signal("TTOU")
        elif self.workers < WORKERS + 2:
            self.workers += 1
            self._signal("TTIN")

    def kill(self) -> None:
        """One worker is gone at once. Stopped before, so that what it has is known."""
        pids = self.server.workers()
        if not pids:
            return
        pid = self.dice.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            wait_stopped(pid)
            self.crowd.doomed |= client_ports(pid) - self._ports_of_others(pids, pid)
            os.kill(pid, signal.SIGKILL)
        self.acts.append(f"KILL {pid}")

    def _ports_of_others(self, pids: list[int], victim: int) -> set[int]:
        """The connections that a stopped worker has given, and others have taken: they must live on.

        Looked at twice: one that others have given to it may not be closed there yet.
        """
        looks = []
        for _ in range(2):
            looks.append(set().union(*(client_ports(pid) for pid in pids if pid != victim)))
            time.sleep(CLOSED_AFTER_S)
        return looks[0] & looks[1]

    def _signal(self, name: str) -> None:
        self.server.kill(getattr(signal, f"SIG{name}"))
        self.acts.append(name)

    async def play(self, seconds: float) -> None:
        """Do some of it at random moments."""
        kinds = (self.reload, self.reload, self.resize, self.kill)
        acts = [self.dice.choice(kinds) for _ in range(self.dice.randint(1, 5))]
        moments = sorted(self.dice.random() * seconds for _ in acts)
        begun = time.monotonic()
        for moment, act in zip([*moments, seconds], [*acts, None], strict=True):
            await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))
            if act:
                act()

    async def steady(self, seconds: float) -> None:
        """Do all of it, evenly: 20 reloads a minute, a worker more and one less every 4 s, a kill every 5 s."""
        plan = sorted(
            (moment * every, order, act)
            for order, (every, act) in enumerate(((3.0, self.reload), (4.0, self.resize), (5.0, self.kill)))
            for moment in range(1, int(seconds / every) + 1)
        )
        begun = time.monotonic()
        for moment, _, act in [*plan, (seconds, 0, lambda: None)]:
            await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))
            act()


def wait_stopped(pid: int) -> None:
    """Wait until the process does nothing any more."""
    while (stat := proc_stat(pid)) and stat[0] not in "TtZ":
        time.sleep(0.0005)


def client_ports(pid: int) -> set[int]:
    """The clients' ports of the TCP connections that the process has open."""
    own = sockets(pid)
    return {port for inode, port in connections() if f"socket:[{inode}]" in own}


def connections() -> Iterator[tuple[str, int]]:
    """The inode and the remote port of each TCP socket."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        yield words[9], int(words[2].rpartition(":")[2], 16)


async def drill(server: Server, seed: int, steady_s: float) -> str:
    """Play one schedule. Returns what has happened, as a text."""
    # All take connections from the beginning.
    server.wait_log(r"Worker \d+ runs ", count=WORKERS)
    dice = random.Random(seed)
    crowd = Crowd(server.address, 3.0 if steady_s else 0.2)
    operator = Operator(server, crowd, dice)
    count = STEADY_CLIENTS if steady_s else CLIENTS
    clients = [asyncio.create_task(crowd.client(random.Random(f"{seed}-{number}"))) for number in range(count)]
    await (operator.steady(steady_s) if steady_s else operator.play(dice.uniform(*SCHEDULE_S)))
    crowd.is_over = True
    try:
        await asyncio.gather(*clients)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    tally, acts = crowd.tally, ", ".join(operator.acts)
    told = f"seed {seed}: {tally.answers} answers of {len(tally.pids)} workers, {tally.cut} cut; {acts}"
    assert not tally.failures, f"{told}\n" + "\n".join(tally.failures[:20])
    assert tally.answers + tally.cut >= count, told
    assert not (bad := BAD_LOG.search(server.log)), f"{told}: {bad}"
    return told


def options(dice: random.Random, steady_s: float) -> list[str]:
    """Options of the server."""
    if steady_s:
        return ["-w", str(WORKERS), "--max-requests", "150", "--max-requests-jitter", "50", "--keep-alive", "60"]
    some = [[], [], ["--max-requests", "20", "--max-requests-jitter", "10"], ["--handoff-after-ms", "1"]]
    return ["-w", str(WORKERS), "--keep-alive", "60", *dice.choice(some)]


def main() -> None:
    """Play schedules on servers, one after the other."""
    from harness import COOPERATIVE, FLAVOURS  # noqa: PLC0415 - the suite gets by without it

    known = FLAVOURS | {flavour.name: flavour for flavour in COOPERATIVE.values()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1)
    parser.add_argument("--steady-s", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--servers", default="rgunicorn-uring", help=f"comma list of {', '.join(known)}")
    args = parser.parse_args()
    names, began = args.servers.split(","), time.monotonic()
    for number in range(args.schedules):
        seed = args.seed + number
        # By the seed, so that one schedule can be played again by itself.
        name = names[seed % len(names)]
        with tempfile.TemporaryDirectory() as directory:
            server = Server(known[name], Path(directory), deaths=True)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                address = probe.getsockname()
            bind = f"127.0.0.1:{address[1]}"
            server.start(APP, *options(random.Random(seed), args.steady_s), bind=bind, at=address)
            try:
                told = asyncio.run(drill(server, seed, args.steady_s))
            except BaseException:
                print(f"{name}, seed {seed}:\n{server.all_output()[-20_000:]}", file=sys.stderr)
                raise
            finally:
                server.close()
        if args.schedules == 1 or number % 20 == 19:
            print(f"{name}, {number + 1} after {time.monotonic() - began:.0f} s, {told}", flush=True)


if __name__ == "__main__":
    main()
