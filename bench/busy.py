"""Kept-alive connections while some workers are inside the application: how long the others' requests take.

    bench/setup.sh
    target/venv-bench/bin/python bench/busy.py            (about 4 minutes; --help for less)

Four workers, 200 connections that have had an answer, then long requests until all threads of one worker, or of three,
are taken for seconds. Meanwhile each other connection sends one short request: one after the other, and then all of
them 1 ms apart, whatever the answers do. What counts is the time from the moment of a request to the end of its answer.

Servers are interleaved: every round runs each of them once. Medians of the rounds' figures are reported, and the worst
of all rounds.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import selectors
import socket
import statistics
import sys
import time
from typing import Any, NamedTuple

import load
import report
import servers

APP = "bench_mixed:app"
WORKERS = 4
CONNECTIONS = 200
LONG_MS = 3_000
APART_S = 0.001
WAIT_S = 30.0
SETTLED_S = 0.5
"""The long requests have begun by then."""
SPREAD_S = 3.0
KINDS = ("one by one", "1 ms apart")

Run = dict[str, Any]


class Candidate(NamedTuple):
    """A server, and how many requests a worker of it runs at a time."""

    server: servers.Server
    threads: int = 1


def table() -> dict[str, Candidate]:
    """The servers, with four workers each."""

    def row(name: str, *options: str, threads: int = 1) -> tuple[str, Candidate]:
        start = servers.gunicorn(name.split(maxsplit=1)[0], *options, app=APP)

        def arguments(port: int) -> list[str]:
            words = start(port)
            words[words.index("-w") + 1] = str(WORKERS)
            return words

        return name, Candidate(servers.Server(name, name.split(maxsplit=1)[0], arguments), threads)

    two = ("-k", "gthread", "--threads", "2")
    return dict(
        [
            row("rgunicorn uring", "-k", "uring", "--io-driver", "uring"),
            row("rgunicorn epoll", "-k", "uring", "--io-driver", "epoll"),
            row("rgunicorn 2 threads", *two, threads=2),
            row("rgunicorn gevent", "-k", "gevent"),
            row("rgunicorn uring, no handoff", "-k", "uring", "--no-handoff"),
            row("gunicorn 2 threads", *two, "--no-control-socket", threads=2),
        ]
    )


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    known = table()
    all_servers = [candidate.server for candidate in known.values()]
    chosen = [known[server.name] for server in servers.choose(args.servers, table=all_servers)]
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    facts = report.machine() | report.versions([candidate.server for candidate in chosen])
    facts["how"] = f"{WORKERS} workers, {CONNECTIONS} connections, {args.rounds} rounds"
    runs = [
        run
        for busy in args.busy
        for number in range(args.rounds)
        for candidate in load.rotated(chosen, number)
        if (run := counted(candidate, busy, number))
    ]
    print(report.header("Beside busy workers", facts))
    for busy in args.busy:
        print(f"### {busy} of {WORKERS} workers busy\n\n| server | {' | '.join(columns())} |")
        print("| --- |" + " ---: |" * len(columns()))
        for candidate in chosen:
            name = candidate.server.name
            # A server none of whose runs counts has no row.
            if own := [run for run in runs if (run["busy"], run["server"]) == (busy, name)]:
                print(f"| {name} | {' | '.join(cells(own))} |")
        print()
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help="comma-separated names; default: all that are installed")
    parser.add_argument("--busy", default=[1, WORKERS - 1], type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def columns() -> list[str]:
    """The heads of the table, without the first."""
    return [f"{kind}: {what} ms" for kind in KINDS for what in ("p50", "p99", "worst")]


def cells(runs: list[Run]) -> list[str]:
    """The figures of one server."""
    found = []
    for kind in KINDS:
        times = [sorted(run[kind]) for run in runs]
        found += [statistics.median(own[len(own) * part // 100] for own in times) for part in (50, 99)]
        found.append(max(own[-1] for own in times))
    return [f"{figure * 1e3:,.1f}" for figure in found]


def counted(candidate: Candidate, busy: int, number: int) -> Run | None:
    """One run; none if other workers were busy than those that should."""
    try:
        return one_run(candidate, busy, number)
    except RuntimeError as error:
        report.say(f"not counted: {error}")
        return None


def one_run(candidate: Candidate, busy: int, number: int) -> Run:
    """Start a server, keep some workers busy, and ask on all other connections."""
    name = candidate.server.name
    with contextlib.ExitStack() as stack:
        port, _ = stack.enter_context(servers.running(candidate.server))
        clients = [stack.enter_context(connected(port)) for _ in range(CONNECTIONS)]
        run: Run = {"server": name, "busy": busy, "round": number}
        for kind, times in zip(KINDS, (one_by_one, apart), strict=True):
            long = take_up(clients, busy, candidate.threads)
            run[kind] = times([client for client in clients if client not in long])
            busy_ones = collections.Counter(answer(client) for client in long)
            if sorted(busy_ones.values()) != [candidate.threads] * busy:
                raise RuntimeError(f"{name}: {busy} workers were to be busy: {dict(busy_ones)}")
    report.say(f"{name}, {busy} busy, round {number + 1}: {', '.join(cells([run]))}")
    return run


def take_up(clients: list[socket.socket], busy: int, threads: int) -> list[socket.socket]:
    """Begin long requests on connections of so many workers, which are those with the most."""
    # Connections spread after the last long requests.
    time.sleep(SPREAD_S)
    of_worker: dict[bytes, list[socket.socket]] = {}
    for client in clients:
        ask(client, 0)
        of_worker.setdefault(answer(client), []).append(client)
    fullest = sorted(of_worker.values(), key=len)[-busy:]
    long = [client for own in fullest for client in own[:threads]]
    for client in long:
        ask(client, LONG_MS)
    time.sleep(SETTLED_S)
    return long


def one_by_one(clients: list[socket.socket]) -> list[float]:
    """The times of one request on each connection, each behind the answer to the one before."""
    times = []
    for client in clients:
        begun = ask(client, 0)
        answer(client)
        times.append(time.monotonic() - begun)
    return times


def apart(clients: list[socket.socket]) -> list[float]:
    """The times of one request on each connection, each 1 ms behind the one before."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        waiting, begun, left = {}, time.monotonic(), list(clients)
        while left or waiting:
            due = begun + (len(clients) - len(left)) * APART_S
            if left and time.monotonic() >= due:
                client = left.pop()
                waiting[client] = ask(client, 0)
                selector.register(client, selectors.EVENT_READ)
                continue
            for key, _ in selector.select(max(0.0, due - time.monotonic()) if left else WAIT_S):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                selector.unregister(client)
                answer(client)
                times.append(time.monotonic() - waiting.pop(client))
    return times


def connected(port: int) -> socket.socket:
    """A new connection."""
    sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(client: socket.socket, work_ms: int) -> float:
    """Send one request; its moment."""
    now = time.monotonic()
    client.sendall(f"GET /?{work_ms} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return now


def answer(client: socket.socket) -> bytes:
    """Read one whole answer; the worker that has given it."""
    got = b""
    while not got.endswith(b"Hello, world!"):
        piece = client.recv(4096)
        if not piece:
            raise ConnectionResetError("closed before the answer")
        got += piece
    if not got.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(got.split(b"\r\n", maxsplit=1)[0].decode())
    return got.partition(b"X-Pid: ")[2].partition(b"\r\n")[0]


if __name__ == "__main__":
    main()
