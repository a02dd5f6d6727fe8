"""A cooperative worker over a long time and under a crowd: does its memory grow, and do thousands wait side by side?

    bench/setup.sh
    target/venv-bench/bin/python bench/soak.py               (about a minute for each server; --help for less)

Two parts for each server, one worker each. First the run: many requests to `/mix` (a gevent.local, a Timeout, a sleep,
greenlets that return and that are killed; see tests/apps/bench_gevent.py) over connections that are closed and opened
again now and then. The resident memory of all processes of the server is taken at each tenth of the requests; what
counts is how much it grows from the first of these to the greatest. Then the crowd: so many connections at once, a
request on each that sleeps a second; what counts is the time from the first connection to the last answer. This
process is the client, on epoll, on a CPU of its own.

The status is 1 when a promise is broken: memory has grown, the crowd took too long or not even a second, a request has
failed, or a server cannot be measured. Each such finding is a line at the end.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import load
import report
import servers
from cooperative import usable

DEFAULT = "rgunicorn uring,rgunicorn epoll"
REOPEN_AFTER = 50
"""Requests of one connection in the run; the connections are not in step."""
SAMPLES = 10
GROWN_MAX_BYTES = 2 * 2**20
"""From the first sample on. Between them lie 450,000 requests and 9,000 connections, unless told otherwise: the least
of Python's objects (16 bytes) kept by each request would be 7 MB, 300 bytes kept by each connection 2.7 MB. What a
sound server does is 0.1 MB."""
CROWD_MAX_S = 3.0
STALL_S = 30.0
"""No answer on any connection for so long is the end of a part."""
HEAD_END = b"\r\n\r\n"

Result = dict[str, Any]
"""The numbers of a part, or its `error`."""


class Client:
    """Connections that each repeat one request, without pipelining."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.epoll = select.epoll()
        self.open: dict[int, socket.socket] = {}
        self.answers: dict[int, bytes] = {}
        self.answered: dict[int, int] = {}
        self.failed = 0

    def connect(self, age: int = 0) -> int:
        """One more connection, as if it had had `age` answers; its number."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=STALL_S)
        sock.setblocking(False)
        number = sock.fileno()
        self.open[number], self.answers[number], self.answered[number] = sock, b"", age
        self.epoll.register(number, select.EPOLLIN)
        return number

    def ask(self, number: int) -> None:
        """Send the request on a connection; it is short enough for any socket's buffer."""
        self.open[number].send(self.request)

    def close(self, number: int) -> None:
        """Forget a connection."""
        self.open.pop(number).close()
        del self.answers[number], self.answered[number]

    def close_all(self) -> None:
        """Forget everything."""
        for number in list(self.open):
            self.close(number)
        self.epoll.close()

    def complete(self) -> Iterator[int]:
        """Wait; then the connections whose answer is complete, or failed (these are closed and counted)."""
        ready = self.epoll.poll(STALL_S)
        if not ready:
            raise RuntimeError(f"no answer for {STALL_S:.0f} s, {len(self.open)} connections open")
        for number, _ in ready:
            if self.read(number):
                yield number

    def read(self, number: int) -> bool:
        """Take what has come; whether that ends the answer."""
        try:
            piece = self.open[number].recv(65_536)
        except ConnectionResetError:
            piece = b""
        answer = self.answers[number] + piece
        self.answers[number] = answer
        head, end, body = answer.partition(HEAD_END)
        if piece and (not end or len(body) < content_length(head)):
            return False
        if piece and head.startswith(b"HTTP/1.1 200 "):
            self.answered[number] += 1
            self.answers[number] = b""
        else:
            self.failed += 1
            self.close(number)
        return True


def content_length(head: bytes) -> int:
    """What the head promises; every answer of these applications has it."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    load.check_machine(args)
    load.raise_file_limit(max(args.connections, args.crowd))
    os.sched_setaffinity(0, {args.load_cpu})  # the servers are started with their own
    chosen, loops = usable(args, servers.choose(args.servers, table=servers.COOPERATIVE))
    if not chosen:
        sys.exit("none of the servers can be measured")
    facts = report.machine() | report.versions(chosen) | {"loops": ", ".join(loops)}
    facts["how"] = (
        f"server on CPU {args.server_cpu}, client on CPU {args.load_cpu}; {args.requests:,} requests to {args.path} "
        f"over {args.connections} connections, then {args.crowd:,} requests at once that sleep {args.sleep:g} s"
    )
    runs = [one_server(args, server) for server in chosen]
    broken = [
        f"{name}: not measured" for name in args.servers.split(",") if name not in {run["server"] for run in runs}
    ]
    broken += [finding for run in runs for finding in findings(args, run)]
    print(report.header("Soak: many requests, many waiting", facts))
    columns = ["server", "RSS at 10%, MiB", "at 50%", "at 100%", "most", "grown, bytes/request", "requests/s", "failed"]
    print(report.table(columns, [soak_row(run) for run in runs]))
    columns = ["server", "connected after, s", "all answered after, s", "failed", "RSS, MiB"]
    print(report.table(columns, [crowd_row(run) for run in runs]))
    promise = f"Promised: memory grows by less than {GROWN_MAX_BYTES / 2**20:g} MiB, the crowd takes less than"
    print(f"{promise} {CROWD_MAX_S:g} s, nothing fails. {'Broken:' if broken else 'Kept.'}")
    print("".join(f"\n- {finding}" for finding in broken))
    report.save(args.json, {"facts": facts, "runs": runs, "broken": broken})
    sys.exit(1 if broken else 0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=DEFAULT, help=f"comma-separated names; default: {DEFAULT}")
    parser.add_argument("--requests", default=500_000, type=int, help="length of the run; default: 500,000")
    parser.add_argument("--connections", default=64, type=int, help="of the run; default: 64")
    parser.add_argument("--path", default="/mix", help="of the run's requests; default: /mix")
    parser.add_argument("--crowd", default=2_000, type=int, help="connections of the crowd; default: 2,000")
    parser.add_argument("--sleep", default=1.0, type=float, help="seconds that each of its requests sleeps; default: 1")
    load.add_places(parser)
    return parser.parse_args()


def one_server(args: argparse.Namespace, server: servers.Server) -> Result:
    """Both parts, each on a server that has just started."""
    result: Result = {"server": server.name}
    for name, part in {"soak": soak, "crowd": crowd}.items():
        result[name] = attempt(args, server, part)
        report.say(f"{server.name}, {name}: {result[name]}")
    return result


def attempt(args: argparse.Namespace, server: servers.Server, part: Callable[..., Result]) -> Result:
    """A part; what went wrong is a result too."""
    try:
        with servers.running(server, args.server_cpu) as (port, pid):
            return part(args, port, pid)
    except (OSError, RuntimeError) as error:
        return {"error": load.reason(error)}


def soak(args: argparse.Namespace, port: int, pid: int) -> Result:
    """The run."""
    step = max(args.requests // SAMPLES, 1)
    client = Client(port, args.path)
    started = time.monotonic()
    for index in range(args.connections):
        client.ask(client.connect(age=index * REOPEN_AFTER // args.connections))
    rss: list[int] = []
    done = 0
    while done < args.requests:
        for number in client.complete():
            done += 1
            if done % step == 0:
                rss.append(servers.rss_bytes(pid))
                report.say(f"{done:,} of {args.requests:,} requests, RSS {rss[-1] / 2**20:.2f} MiB")
            if number in client.open and client.answered[number] >= REOPEN_AFTER:
                client.close(number)
            client.ask(number if number in client.open else client.connect())
    seconds = time.monotonic() - started
    client.close_all()
    return {
        "rss": rss,
        "grown": max(rss) - rss[0],
        "bytes_per_request": (rss[-1] - rss[0]) / max(step * (len(rss) - 1), 1),
        "requests_per_s": done / seconds,
        "failed": client.failed,
    }


def crowd(args: argparse.Namespace, port: int, pid: int) -> Result:
    """Everybody at once."""
    client = Client(port, f"/sleep?{args.sleep:g}")
    started = time.monotonic()
    numbers = [client.connect() for _ in range(args.crowd)]
    connected_s = time.monotonic() - started
    for number in numbers:
        client.ask(number)
    done = 0
    while done < args.crowd:
        done += sum(1 for _ in client.complete())
    seconds = time.monotonic() - started
    rss = servers.rss_bytes(pid)
    client.close_all()
    return {"connected_s": connected_s, "seconds": seconds, "failed": client.failed, "rss": rss}


def findings(args: argparse.Namespace, run: Result) -> list[str]:
    """The promises that a server has broken."""
    found = []
    for part in ("soak", "crowd"):
        if error := run[part].get("error"):
            found.append(f"{part} has failed: {error}")
        elif run[part]["failed"]:
            found.append(f"{part}: {run[part]['failed']:,} requests have failed")
    if run["soak"].get("grown", 0) >= GROWN_MAX_BYTES:
        found.append(f"memory has grown by {run['soak']['grown'] / 2**20:.1f} MiB")
    seconds = run["crowd"].get("seconds", args.sleep)
    if seconds >= CROWD_MAX_S:
        found.append(f"the crowd has taken {seconds:.1f} s")
    if seconds < args.sleep:
        found.append(f"the crowd has taken {seconds:.1f} s, less than a single request sleeps")
    return [f"{run['server']}: {finding}" for finding in found]


def soak_row(run: Result) -> list[str]:
    """A line of the first table."""
    found = run["soak"]
    if "error" in found:
        return [run["server"], *["-"] * 7]
    rss = found["rss"]
    memory = [f"{size / 2**20:.1f}" for size in (rss[0], rss[(len(rss) - 1) // 2], rss[-1], max(rss))]
    rates = [f"{found['bytes_per_request']:.2f}", f"{found['requests_per_s']:,.0f}"]
    return [run["server"], *memory, *rates, f"{found['failed']:,}"]


def crowd_row(run: Result) -> list[str]:
    """A line of the second."""
    found = run["crowd"]
    if "error" in found:
        return [run["server"], *["-"] * 4]
    times = [f"{found['connected_s']:.2f}", f"{found['seconds']:.2f}"]
    return [run["server"], *times, f"{found['failed']:,}", f"{found['rss'] / 2**20:.1f}"]


if __name__ == "__main__":
    main()
