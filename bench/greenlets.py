"""What a greenlet costs: with frame chunks kept (`frame_cache_chunks`) and as CPython does it.

    bench/setup.sh
    target/venv-bench/bin/python bench/greenlets.py          (about a minute)

Two servers with one worker each run on the same CPU: one as it comes, one with `--frame-cache-chunks 0`. They get the
same task in turn, so that whatever else the machine does meets both. The tasks run inside the worker, in a request;
what is counted is its CPU time (system calls and page faults included), divided by the number of things done. This
file is both sides: the program, and with `app` the application.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import report
import servers
from greenlet import getcurrent, greenlet

AT_ONCE = 50
"""Greenlets that a loop of gevent ends in one turn."""
EDGE_DEPTHS = 400
REQUESTS = 10_000
PIPELINED = 20
HELLO = "a hello request (control)"


# The application's side: each task does `count` things.


def nothing() -> None:
    """The body of greenlets, threads and calls."""


def raw(count: int) -> None:
    """greenlet: new, start, end"""
    for _ in range(count):
        greenlet(nothing).switch()


def spawn_with(spawn: Callable[..., object]) -> Callable[[int], None]:
    """Spawn in batches, let the loop turn until they have ended."""

    def task(count: int) -> None:
        for _ in range(count // AT_ONCE):
            for _ in range(AT_ONCE):
                spawn(nothing)
            gevent.sleep(0)

    return task


def pool(count: int) -> None:
    """gevent.pool.Pool.spawn, to its end"""
    group = gevent.pool.Pool(AT_ONCE)
    for _ in range(count):
        group.spawn(nothing)
    group.join()


def waiting() -> None:
    """The body of a greenlet of a wave."""
    getcurrent().parent.switch()


def wave_of(size: int) -> Callable[[int], None]:
    """Start `size` greenlets, then end all."""

    def task(count: int) -> None:
        for _ in range(count // size):
            alive = [greenlet(waiting) for _ in range(size)]
            for one in alive:
                one.switch()
            for one in alive:
                one.switch()

    return task


def threads(count: int) -> None:
    """threading.Thread: start, join"""
    for _ in range(count):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()


def calls(count: int) -> None:
    """Calls of a Python function, from here."""
    for _ in range(count):
        nothing()


def at_depth(left: int, task: Callable[[int], int], count: int) -> int:
    """Call `task` below so many other calls."""
    return at_depth(left - 1, task, count) if left else task(count)


def timed_calls(count: int) -> int:
    """Nanoseconds of `count` calls."""
    before = time.process_time_ns()
    for _ in range(count):
        nothing()
    return time.process_time_ns() - before


def edge(count: int) -> None:
    """Calls at the depth where they are slowest: where the chunk of frames is just full."""
    global edge_depth  # noqa: PLW0603  # It takes long to find.
    if edge_depth is None:
        cost = []
        for left in range(EDGE_DEPTHS):
            cost.append(0)
            for _ in range(3):
                cost[left] += at_depth(left, timed_calls, 100)
        edge_depth = cost.index(max(cost))
    at_depth(edge_depth, timed_calls, count)


edge_depth: int | None = None


def arenas(count: int) -> None:
    """Objects enough to take and give back pymalloc's arenas, which come from the same allocator."""
    for _ in range(count // 100_000):
        objects = [(number, number) for number in range(100_000)]
        del objects


TASKS: dict[str, tuple[Callable[[int], None], int]] = {
    "greenlet: new, start, end": (raw, 10_000),
    "64 greenlets alive at once": (wave_of(64), 6_400),
    "256 alive": (wave_of(256), 5_120),
    "1,000 alive": (wave_of(1_000), 5_000),
    "gevent.spawn_raw to its end": (spawn_with(gevent.spawn_raw), 5_000),
    "gevent.spawn to its end": (spawn_with(gevent.spawn), 5_000),
    "gevent.pool.Pool.spawn to its end": (pool, 5_000),
    "thread: start, join": (threads, 500),
    "a call at the worst depth": (edge, 5_000),
    "a call anywhere (control)": (calls, 500_000),
    "an object (control)": (arenas, 500_000),
}


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Runs the task whose number is the query; without one answers as the other benches' application does."""
    body = b"Hello, world!"
    if query := environ["QUERY_STRING"]:
        task, count = list(TASKS.values())[int(query)]
        before = time.process_time_ns()
        task(count)
        body = json.dumps((time.process_time_ns() - before) / count).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# The program's side.


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    kept, stock = server("kept", args.kept), server("stock", 0)
    facts = report.machine() | report.versions([kept])
    facts |= {name: servers.version(name) or "?" for name in ("greenlet", "gevent")}
    facts["how"] = (
        f"CPU time of one worker, up to {args.kept} chunks kept; {args.rounds} rounds, interleaved; "
        "median [min–max]; ratio: median of the rounds' ratios; best: least of one to least of the other"
    )
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in [*TASKS, HELLO] if args.only in name}
    with servers.running(kept, args.cpu) as first, servers.running(stock, args.cpu) as second:
        for number in range(args.rounds + 1):
            for name, measured in runs.items():
                measure = request_ns if name == HELLO else task_ns
                measured.append((measure(name, *first), measure(name, *second)))
            report.say(f"round {number}/{args.rounds}" + (": warm-up" if number == 0 else ""))
    rows = [row(name, measured[1:]) for name, measured in runs.items()]
    print(report.header("Greenlets, threads and calls: frame chunks kept or not", facts))
    print(report.table(["one of", "kept, ns", "stock, ns", "ratio", "best"], rows))
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", default=1_000, type=int, help="frame_cache_chunks of the first server")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose name contains it")
    parser.add_argument("--rounds", default=15, type=int)
    parser.add_argument("--cpu", default=0, type=int, help="where both servers run")
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def server(name: str, kept: int) -> servers.Server:
    """A row of the comparison."""

    def command(port: int) -> list[str]:
        here = str(pathlib.Path(__file__).resolve().parent)
        options = ["-k", "uring", "-b", f"127.0.0.1:{port}", "--timeout", "0", "--pythonpath", here]
        return ["rgunicorn", *options, "--frame-cache-chunks", str(kept), "greenlets:app"]

    return servers.Server(name, "rgunicorn", command)


def task_ns(name: str, port: int, _pid: int) -> float:
    """Nanoseconds per thing done."""
    index = list(TASKS).index(name)
    return float(servers.get(port, f"/?{index}"))


def request_ns(_name: str, port: int, pid: int) -> float:
    """CPU nanoseconds of the server per plain request, on one connection that pipelines."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        servers.request(sock)
        before = servers.cpu_ns(pid)
        for _ in range(REQUESTS // PIPELINED):
            sock.sendall(PIPELINED * servers.REQUEST)
            answers = b""
            while answers.count(b"Hello, world!") < PIPELINED:
                answers += sock.recv(65_536)
        return (servers.cpu_ns(pid) - before) / REQUESTS


def row(name: str, measured: list[tuple[float, float]]) -> list[str]:
    """A line of the table."""
    kept, stock = ([pair[side] for pair in measured] for side in (0, 1))
    ratio = statistics.median(one / other for one, other in measured)
    return [name, report.spread(kept, 0), report.spread(stock, 0), f"{ratio:.2f}", f"{min(kept) / min(stock):.2f}"]


if __name__ == "__main__":
    main()
