"""A thousand clients that are slow on purpose: are the others answered, how fast, and when are the slow ones gone?

    bench/setup.sh
    target/venv-bench/bin/python bench/attacks.py            (about 15 minutes; --help for less)

Three attacks on each server, which has one worker:

    header    half a request head, and one more byte of it each second
    body      a request whose head promises a body, 1,000 bytes of it, and then nothing
    reader    a request for a megabyte, of which not one byte is read

What counts is the time that one well-behaved client waits, from its connect to its answer: it comes again and again, on
a new connection each time, before the attack and during it. What the server holds are the sockets that its processes
have open beyond those that it had before; what it has not accepted costs it nothing. The attackers are a process of
their own (this script, too), on the CPU of the load.

The status is 1 when rgunicorn breaks a promise: the others wait more than twice as long in the median, one is not
answered at all, or attackers are still there when their time is over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import load
import report
import servers

APP = "bench_attacked:app"
ATTACKS = ["header", "body", "reader"]
TIMEOUTS_S = {"header": 10, "body": 30, "reader": 60}
"""When rgunicorn has closed an attacker, by default."""
SHORT_S = 5
"""The same where the server can be told so."""
SETTINGS = {"header": "--header-timeout", "body": "--body-timeout", "reader": "--write-timeout"}
MARGIN_S = 5
"""After the time-out: for the clock of the worker, which looks once a second, and for a thousand closes."""
DRIP_EVERY_S = 1.0
THREADS = 8
PATIENCE_S = 2.0
"""How long the well-behaved client waits before it counts itself as unanswered."""
PACE_S = 0.005
SLOWER_MAX = 2.0
RECEIVE_BUFFER_BYTES = 4_096
SEGMENT_BYTES = 1_460
"""As on an Ethernet. Loopback's segments of 64 KiB make the kernel buffer 2.6 MB for each slow reader: a thousand of
them, and it has no memory left for anybody's TCP, whatever the server does."""

Run = dict[str, Any]


def main() -> None:
    """Attack, then print Markdown on stdout and save JSON."""
    args = arguments()
    if args.attack:
        return attack(args.attack, args.port, args.connections)
    load.check_machine(args)
    load.raise_file_limit(args.connections)
    chosen = servers.choose(args.servers, table=table())
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    os.sched_setaffinity(0, {args.load_cpu})
    facts = report.machine() | report.versions(chosen)
    facts["how"] = (
        f"{args.connections:,} attackers, {args.seconds} s of well-behaved requests before and during each attack, "
        f"server on CPU {args.server_cpu}, attackers and client on CPU {args.load_cpu}"
    )
    runs = [one_run(args, server, name) for name in args.attacks.split(",") for server in chosen]
    print(report.header("Slow clients on purpose", facts))
    for name in args.attacks.split(","):
        print(f"### Attack: {name}\n\n{comparison([run for run in runs if run['attack'] == name])}")
    report.save(args.json, {"facts": facts, "runs": runs})
    broken = [line for run in runs if run["server"].startswith("rgunicorn") for line in findings(run)]
    print("\n".join(broken) or "every promise is kept", file=sys.stderr)
    sys.exit(1 if broken else 0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help="comma-separated names; default: all that are installed")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="comma-separated names; default: %(default)s")
    parser.add_argument("--connections", default=1_000, type=int)
    parser.add_argument("--seconds", default=6, type=int, help="how long latencies are taken, before and during")
    load.add_places(parser)
    parser.add_argument("--attack", choices=ATTACKS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def table() -> list[servers.Server]:
    """rgunicorn on both drivers and three of Gunicorn's workers, with their defaults but for the room for all."""
    rows = [
        ("rgunicorn uring", "rgunicorn", ["-k", "uring", "--io-driver", "uring", *short_timeouts()]),
        ("rgunicorn epoll", "rgunicorn", ["-k", "uring", "--io-driver", "epoll", *short_timeouts()]),
        ("gunicorn sync", "gunicorn", ["-k", "sync", "--no-control-socket"]),
        ("gunicorn gthread", "gunicorn", ["-k", "gthread", "--threads", str(THREADS), "--no-control-socket"]),
        ("gunicorn gevent", "gunicorn", ["-k", "gevent", "--no-control-socket"]),
    ]
    return [servers.Server(name, program, line(program, *options)) for name, program, options in rows]


def line(program: str, *options: str) -> Any:
    """A command line without the long keep-alive of the other benches: the time-outs are what is measured."""

    def arguments(port: int) -> list[str]:
        limit = ["--worker-connections", str(servers.CONNECTIONS_MAX)]
        return [program, "-w", "1", "-b", f"127.0.0.1:{port}", *limit, *options, APP]

    return arguments


def knows_timeouts() -> bool:
    """Whether the installed rgunicorn has the settings."""
    program = pathlib.Path(sys.executable).with_name("rgunicorn")
    if not program.exists():
        return False
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    return all(option in text for option in SETTINGS.values())


def short_timeouts() -> list[str]:
    """The settings that make the bench shorter."""
    return [word for option in SETTINGS.values() for word in (option, str(SHORT_S))] if knows_timeouts() else []


def timeout_s(name: str) -> int:
    """After which time rgunicorn has closed such an attacker."""
    return SHORT_S if knows_timeouts() else TIMEOUTS_S[name]


def one_run(args: argparse.Namespace, server: servers.Server, name: str) -> Run:
    """Start the server, look at it in peace and under attack, wait for the end of the attackers."""
    with servers.running(server, args.server_cpu) as (port, pid):
        latencies(port, 1)
        peace, _ = latencies(port, args.seconds)
        before = sockets(pid)
        cpu_before = servers.cpu_ns(pid)
        with attackers(args, name, port) as begun:
            answered, unanswered = latencies(port, args.seconds)
            used_s = (servers.cpu_ns(pid) - cpu_before) / 1e9
            held = sockets(pid) - before
            deadline, left = begun + timeout_s(name) + MARGIN_S, held
            while left > 0 and time.monotonic() < deadline:
                time.sleep(0.2)
                left = sockets(pid) - before
            gone_s = time.monotonic() - begun
    run = {
        "server": server.name,
        "attack": name,
        "peace_ms": statistics.median(peace) if peace else None,
        "attack_ms": statistics.median(answered) if answered else None,
        "worst_ms": max(answered) if answered else None,
        "answered": len(answered),
        "unanswered": unanswered,
        "cpu_s": used_s,
        "held": max(held, 0),
        "left": max(left, 0),
        "gone_s": gone_s,
    }
    report.say(f"{name}, {server.name:17} {run}")
    return run


def latencies(port: int, seconds: float) -> tuple[list[float], int]:
    """Milliseconds from the connect to the answer of one client after the other; how many had none."""
    found, unanswered = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
                servers.request(sock)
            found.append((time.monotonic() - begin) * 1_000)
        except OSError:
            unanswered += 1
        time.sleep(PACE_S)
    return found, unanswered


def sockets(pid: int) -> int:
    """Open sockets of the process and its descendants."""
    count = 0
    for member in servers.tree(pid):
        with contextlib.suppress(OSError):
            for file in pathlib.Path(f"/proc/{member}/fd").iterdir():
                with contextlib.suppress(OSError):
                    count += os.readlink(file).startswith("socket:")
    return count


@contextlib.contextmanager
def attackers(args: argparse.Namespace, name: str, port: int) -> Iterator[float]:
    """The attack, begun by all; gives the time at which the first one did."""
    words = ["--attack", name, "--port", str(port), "--connections", str(args.connections)]
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the attackers could not begin")
            yield begun
        finally:
            process.kill()


OPENINGS = {
    "header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "body": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000),
    "reader": b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def attack(name: str, port: int, count: int) -> None:
    """The other process: so many connections, until it is killed or all are closed."""
    crowd = {}
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        sock.connect(("127.0.0.1", port))
        sock.sendall(OPENINGS[name])
        crowd[sock.fileno()] = sock
    print("ready", flush=True)
    while True:
        select.select([], [], [], DRIP_EVERY_S)
        if name != "header":
            continue
        for number, sock in list(crowd.items()):
            try:
                sock.send(b"a")
            except OSError:
                crowd.pop(number).close()


def comparison(runs: list[Run]) -> str:
    """One row per server."""
    columns = ["server", "median before, ms", "during, ms", "worst, ms", "unanswered", "CPU, s", "held", "at the end"]
    return report.table(columns, [row(run) for run in runs])


def row(run: Run) -> list[str]:
    """One server under one attack."""
    left = f"{run['left']:,} left" if run["left"] else "all gone"
    return [
        run["server"],
        *(milliseconds(run[key]) for key in ("peace_ms", "attack_ms", "worst_ms")),
        f"{run['unanswered']:,} of {run['unanswered'] + run['answered']:,}",
        f"{run['cpu_s']:.2f}",
        f"{run['held']:,}",
        f"{left} after {run['gone_s']:.0f} s" if run["held"] else "-",
    ]


def milliseconds(value: float | None) -> str:
    """Two digits, or a dash for nobody's latency."""
    return "-" if value is None else f"{value:.2f}"


def findings(run: Run) -> list[str]:
    """Broken promises."""
    name, found = f"{run['server']}, {run['attack']}", []
    if run["unanswered"] or run["attack_ms"] is None:
        found.append(f"{name}: {run['unanswered']} were not answered")
    elif run["attack_ms"] > SLOWER_MAX * run["peace_ms"]:
        found.append(f"{name}: {run['attack_ms']:.2f} ms instead of {run['peace_ms']:.2f}")
    if run["left"]:
        found.append(f"{name}: {run['left']} attackers are still there")
    return found


if __name__ == "__main__":
    main()
