"""Requests that nearly are some: seeds from the parser's corpus, bent at random; and a run of them against a server.

    tests/py/mutants.py --requests 1000000 --servers rgunicorn-uring    (about five minutes; ci/check.sh --long)

A failure prints the seed; `--seed` plays the same requests again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "crates" / "rgunicorn-http" / "tests" / "corpus"
BATCH = 100
"""Connections at a time."""
GOOD_EVERY = 1_000
PATIENCE_S = 20.0
BYTES_MAX = 16_384
BAD_LOG = re.compile(r"panicked|Traceback|Internal error|WORKER TIMEOUT|was sent SIG|exited with code")
MEANT = b"SCRIPT_NAME"
"""The one status 500 that is no fault: a field of a trusted proxy's contradicts the path, as in Gunicorn."""
HOST = re.compile(rb"(?im)^host:")
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x7f",
    b"\xff",
    b"%00",
    b"%2F",
    b"..",
    b"//",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: b\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffff\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"OPTIONS * ",
    b"http://a/",
    b"[::1]:80",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
]


def seeds() -> list[bytes]:
    """The requests of the parser's corpus, good and bad, in a fixed order; with a host, for most were refused else."""
    texts = [path.read_bytes() for path in sorted(CORPUS.rglob("*.http"))]
    return [text if HOST.search(text) else text.replace(b"\r\n", b"\r\nHost: a\r\n", 1) for text in texts]


class Mutator:
    """An endless source of bent requests, the same for the same seed."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.seeds = [text for text in seeds() if len(text) <= BYTES_MAX]

    def next(self) -> bytes:
        """Make one."""
        text = bytearray(self.random.choice(self.seeds))
        for _ in range(self.random.choice([1, 1, 1, 2, 3, 8])):
            self.random.choice(self.STEPS)(self, text)
        return bytes(text[:BYTES_MAX])

    def _at(self, text: bytearray) -> int:
        return self.random.randint(0, len(text))

    def _flip(self, text: bytearray) -> None:
        if text:
            text[self.random.randrange(len(text))] ^= 1 << self.random.randrange(8)

    def _set(self, text: bytearray) -> None:
        if text:
            text[self.random.randrange(len(text))] = self.random.randrange(256)

    def _token(self, text: bytearray) -> None:
        at = self._at(text)
        text[at : at + self.random.choice([0, 0, 1, 4])] = self.random.choice(TOKENS)

    def _delete(self, text: bytearray) -> None:
        at = self._at(text)
        del text[at : at + self.random.randint(1, 8)]

    def _repeat(self, text: bytearray) -> None:
        at = self._at(text)
        piece = text[at : at + self.random.randint(1, 40)]
        text[at:at] = piece * self.random.choice([1, 2, 100])

    def _splice(self, text: bytearray) -> None:
        other = self.random.choice(self.seeds)
        text[self._at(text) :] = other[self.random.randint(0, len(other)) :]

    def _chain(self, text: bytearray) -> None:
        text += self.random.choice(self.seeds)

    STEPS = (_flip, _set, _set, _token, _token, _delete, _repeat, _splice, _chain)


def statuses(answer: bytes) -> list[int]:
    """The statuses of what may be several answers, as far as their heads can be told from their bodies."""
    return [int(match[1]) for match in re.finditer(rb"HTTP/1\.1 (\d{3}) ", answer)]


def exchange(address: tuple[str, int], requests: list[bytes]) -> list[bytes]:
    """Send each on a connection of its own, all before the first answer is read; give the answers."""
    answers = []
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in requests]
        for client, text in zip(clients, requests, strict=True):
            # The server may have had enough before the end.
            with contextlib.suppress(ConnectionError):
                client.sendall(text)
                client.shutdown(socket.SHUT_WR)
        for client, text in zip(clients, requests, strict=True):
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := _receive(client, text):
                    answer += piece
            answers.append(answer)
    return answers


def _receive(client: socket.socket, text: bytes) -> bytes:
    try:
        return client.recv(65536)
    except TimeoutError:
        raise AssertionError(f"no end of the answer within {PATIENCE_S} s to {text!r}") from None


def play(server, count: int, seed: int, log=lambda text: None) -> Counter[int]:
    """Send `count` mutants of `seed` to a server; a good request has to be answered after each thousand."""
    mutator, seen, done = Mutator(seed), Counter(), 0
    assert server.get("/").status == 200
    pids = sorted(server.workers())
    while done < count:
        requests = [mutator.next() for _ in range(min(BATCH, count - done))]
        for text, answer in zip(requests, exchange(server.address, requests), strict=True):
            found = statuses(answer)
            assert 500 not in found or MEANT in answer, f"seed {seed}: {text!r} gave {answer!r}"
            seen.update(found)
        done += len(requests)
        if done % GOOD_EVERY < BATCH:
            good = server.get("/echo", method="POST", body=b"good")
            assert (good.status, good.body) == (200, b"good"), f"seed {seed}, after {done}: {good}"
            log(f"{done} requests")
    assert sorted(server.workers()) == pids, f"seed {seed}: a worker has died"
    assert not BAD_LOG.search(server.log), f"seed {seed}: {server.log[-2000:]}"
    return seen


ADDRESS_SANITIZER = {
    "PYTHONMALLOC": "malloc",
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:log_path=asan",
}
"""Settings of a server that is built with the sanitizer: it sees Python's objects only if they come from malloc."""
RSS_GROWTH_MAX = 1.1
"""How much more memory a worker may have at the end than after the first tenth: what it keeps for later has a bound."""


def size(pid: int) -> tuple[int, int]:
    """A process's memory in KiB, and its open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def soak(server, count: int, seed: int, log, *, grows: bool = False) -> Counter[int]:
    """Play, and look at what the worker has grown by since it had seen a tenth of it: its memory, unless it `grows`."""
    from harness import wait_for  # noqa: PLC0415 - as in main

    tenth = count // 10
    seen = play(server, tenth, seed, log)
    (pid,) = server.workers()
    before = size(pid)
    seen += play(server, count - tenth, seed + 1, log)
    # The last connections may still be about to close.
    wait_for(f"at most {before[1]} descriptors (seed {seed})", lambda: size(pid)[1] <= before[1])
    after = size(pid)
    print(f"  memory {before[0]} KiB, then {after[0]} KiB; descriptors {before[1]}, then {after[1]}", flush=True)
    assert grows or after[0] <= before[0] * RSS_GROWTH_MAX, (
        f"seed {seed}: memory grew from {before[0]} to {after[0]} KiB"
    )
    return seen


def main() -> None:
    """Play against servers, one after the other."""
    from harness import COOPERATIVE, FLAVOURS, Server  # noqa: PLC0415 - the suite gets by without it

    known = FLAVOURS | {flavour.name: flavour for flavour in COOPERATIVE.values()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--servers", default="rgunicorn-uring", help=f"comma list of {', '.join(known)}")
    parser.add_argument("--sanitizer", help="what to preload of AddressSanitizer; the server is built with it")
    args = parser.parse_args()
    env = {"LD_PRELOAD": args.sanitizer, **ADDRESS_SANITIZER} if args.sanitizer else {}
    for name in args.servers.split(","):
        with tempfile.TemporaryDirectory() as directory, _running(Server(known[name], Path(directory)), env) as server:
            began = time.monotonic()
            print(f"{name}: {args.requests} requests, seed {args.seed}", flush=True)
            seen = soak(server, args.requests, args.seed, _progress(began), grows=bool(env))
            print(f"{name}: {time.monotonic() - began:.0f} s, statuses {dict(sorted(seen.items()))}", flush=True)


@contextlib.contextmanager
def _running(server, env: dict[str, str]) -> Iterator:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    # A line for each refusal would be as much as the requests are.
    options = ["-w", "1", "--log-level", "error", "--access-logfile", "/dev/null"]
    server.start("http_app:app", *options, bind=f"127.0.0.1:{address[1]}", at=address, env=env)
    try:
        yield server
    finally:
        end(server)


def end(server) -> None:
    """Close a server, which the sanitizer must have nothing to say about."""
    try:
        server.close()
    finally:
        reports = [path.read_text() for path in server.workdir.glob("asan.*")]
        assert not reports, "\n".join(reports)


def _progress(began: float):
    told = [began]

    def log(text: str) -> None:
        if time.monotonic() - told[0] > 10:
            told[0] = time.monotonic()
            print(f"  {text}", file=sys.stderr, flush=True)

    return log


if __name__ == "__main__":
    main()
