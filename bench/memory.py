"""Memory per idle keep-alive connection: one worker, N connections, each after one request.

    bench/setup.sh
    target/venv-bench/bin/python bench/memory.py             (a few minutes)

What is counted is the growth of the server's proportional set size (all its processes) between 'warm, no connection'
and 'N connections idle', divided by N. Memory that the kernel keeps for sockets is the same for all and not counted.
This process is the client; a limit of 20,000 open files per process is enough for both sides.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import statistics
import struct
import sys
import time
from typing import Any

import load
import report
import servers

DEFAULT = ["rgunicorn uring", "rgunicorn epoll", "gunicorn gevent", "granian", "bjoern"]
WARM_UP_REQUESTS = 2_000
SETTLE_S = 10.0
"""The longest wait for the size to stop changing (allocators give memory back late)."""
SETTLE_STEP_S = 0.5


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    load.raise_file_limit(args.connections)
    chosen = servers.choose(args.servers, DEFAULT)
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    facts = report.machine() | report.versions(chosen)
    facts["how"] = f"{args.connections:,} idle connections, {args.rounds} rounds, interleaved; median [min–max]"
    runs = [one_run(args, server, number) for number in range(args.rounds) for server in chosen]
    rows = []
    for server in chosen:
        own = [run for run in runs if run["server"] == server.name]
        rows.append(
            [
                server.name,
                report.spread([run["bytes_per_connection"] for run in own], 0),
                f"{statistics.median(run['pss_before'] for run in own) / 2**20:.1f}",
                f"{statistics.median(run['pss_after'] for run in own) / 2**20:.1f}",
                f"{max(run['lost'] for run in own):,}",
            ]
        )
    print(report.header("Memory per idle connection, one worker", facts))
    columns = ["server", "bytes/connection", "PSS before, MiB", "PSS after, MiB", "lost connections"]
    print(report.table(columns, rows))
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help=f"comma-separated names; default: {','.join(DEFAULT)}")
    parser.add_argument("--connections", default=19_000, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def one_run(args: argparse.Namespace, server: servers.Server, number: int) -> dict[str, Any]:
    """Start one server, measure it, stop it."""
    with servers.running(server) as (port, pid):
        warm_up(port)
        before = settled(pid)
        sockets = [connection(port) for _ in range(args.connections)]
        after = settled(pid)
        lost = len(closed(sockets))
        close_hard(sockets)
    per_connection = (after - before) / args.connections
    report.say(f"round {number + 1}/{args.rounds}, {server.name:17}{per_connection:9.0f} bytes/connection, {lost} lost")
    return {
        "server": server.name,
        "round": number,
        "connections": args.connections,
        "pss_before": before,
        "pss_after": after,
        "bytes_per_connection": per_connection,
        "lost": lost,
    }


def warm_up(port: int) -> None:
    """Many requests on one connection: everything that is allocated once is allocated before the first look."""
    with connection(port) as sock:
        for _ in range(WARM_UP_REQUESTS):
            servers.request(sock)


def connection(port: int) -> socket.socket:
    """A connection that has had one answer."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    servers.request(sock)
    return sock


def settled(pid: int) -> int:
    """The size once two looks in a row agree to the page."""
    deadline = time.monotonic() + SETTLE_S
    last = servers.pss_bytes(pid)
    while True:
        time.sleep(SETTLE_STEP_S)
        now = servers.pss_bytes(pid)
        if abs(now - last) < resource.getpagesize() or time.monotonic() > deadline:
            return now
        last = now


def closed(sockets: list[socket.socket]) -> list[int]:
    """Connections on which the server has said something, which can only be that it closed them."""
    poll = select.poll()
    for sock in sockets:
        poll.register(sock, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(0)]


def close_hard(sockets: list[socket.socket]) -> None:
    """Reset, so that no port stays in TIME_WAIT for the next server."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


if __name__ == "__main__":
    main()
