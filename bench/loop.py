"""What the operations of gevent's loop cost: nanoseconds of CPU on libev and on rgunicorn's loop, on both drivers.

    bench/setup.sh
    target/venv-bench/bin/python bench/loop.py               (about a minute; --help for less)

Each loop runs in a process of its own, all on one CPU, and they do the same task in turn, round after round, another
one first each time; so whatever else the machine does meets all. The processes are started anew now and then: where
memory happens to lie in one makes some tasks a tenth slower for as long as it lives. `uring cached` and `epoll cached`
run in a worker of rgunicorn (`-k gevent`), inside a request, with its cache of frame chunks; only tasks that leave the
loop's running to the hub are done there. A loop that does not start, or is not the one that was asked for, is left
out, with the reason on stderr. This file is all sides: the program, with `--child` a process with a loop, and with
`app` the application.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.event
import gevent.socket
import greenlets
import load
import report
import servers
from greenlet import getcurrent

BATCH = 1_000
LONG_S = 1_000.0
READ = 1
MESSAGE = b"x" * 100

Task = Callable[[int], None]
Round = dict[str, float | None]
"""Nanoseconds per thing done of each loop; `None` where the task is not done."""


# A child's side. Tasks that run the loop themselves, in a process whose hub never does.


def nothing() -> None:
    """The callback of everything."""


def callbacks(count: int) -> None:
    """Queue a thousand, run the loop until they are done."""
    loop = gevent.get_hub().loop
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            loop.run_callback(nothing)
        loop.run()


def turns(count: int) -> None:
    """The loop looks and finds nothing to do."""
    loop = gevent.get_hub().loop
    with loop.timer(LONG_S) as timer:
        timer.start(nothing)
        for _ in range(count):
            loop.run(nowait=True)


def timers(count: int) -> None:
    """What gevent.sleep and Timeout do, without the wait; a turn after each batch, so that nothing is put off."""
    loop = gevent.get_hub().loop
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            timer = loop.timer(LONG_S)
            timer.start(nothing)
            timer.stop()
            timer.close()
        loop.run(nowait=True)


def timer_restarts(count: int) -> None:
    """The same timer over and over."""
    loop = gevent.get_hub().loop
    with loop.timer(LONG_S) as timer:
        for _ in range(count // BATCH):
            for _ in range(BATCH):
                timer.start(nothing)
                timer.stop()
            loop.run(nowait=True)


def ios(count: int) -> None:
    """What a socket's watchers go through, without the wait."""
    loop = gevent.get_hub().loop
    one, other = gevent.socket.socketpair()
    with one, other:
        descriptor = one.fileno()
        for _ in range(count // BATCH):
            for _ in range(BATCH):
                watcher = loop.io(descriptor, READ)
                watcher.start(nothing)
                watcher.stop()
                watcher.close()
            loop.run(nowait=True)


# Tasks that leave the loop to the hub.


def switches(count: int) -> None:
    """To the hub and back, by a callback."""
    hub = gevent.get_hub()
    switch = getcurrent().switch
    for _ in range(count):
        hub.loop.run_callback(switch)
        hub.switch()


def sleeps(count: int) -> None:
    """gevent.sleep(0)"""
    for _ in range(count):
        gevent.sleep(0)


def sleeps_under_timeout(count: int) -> None:
    """The same, a Timeout pending all the while."""
    with gevent.Timeout(LONG_S):
        sleeps(count)


def timeouts(count: int) -> None:
    """A Timeout of its own around nothing."""
    for _ in range(count):
        with gevent.Timeout(LONG_S):
            pass


def naps(count: int) -> None:
    """Sleeps that end by a timer: a hundred greenlets at a time, each for 0.1 ms."""
    for _ in range(count // 100):
        gevent.joinall([gevent.spawn(gevent.sleep, 0.0001) for _ in range(100)])


def echo(sock: gevent.socket.socket) -> None:
    """Sends back what comes, until the other side closes."""
    while piece := sock.recv(4_096):
        sock.sendall(piece)


def round_trips(count: int) -> None:
    """Two greenlets, a socket pair between them, a wait on each side."""
    one, other = gevent.socket.socketpair()
    with one, other:
        answering = gevent.spawn(echo, other)
        for _ in range(count):
            one.sendall(MESSAGE)
            one.recv(4_096)
        one.shutdown(gevent.socket.SHUT_WR)
        answering.join()


def wait_and_set(own: gevent.event.Event, others: gevent.event.Event, count: int) -> None:
    """One side of the ping-pong."""
    for _ in range(count):
        own.wait()
        own.clear()
        others.set()


def events(count: int) -> None:
    """Two greenlets that wake each other."""
    one, other = gevent.event.Event(), gevent.event.Event()
    answering = gevent.spawn(wait_and_set, one, other, count)
    one.set()
    wait_and_set(other, one, count)
    answering.join()


DIRECT: dict[str, tuple[Task, int]] = {
    "run_callback, to its end": (callbacks, 50_000),
    "an empty turn": (turns, 10_000),
    "timer: create, start, stop, close": (timers, 20_000),
    "timer: start, stop": (timer_restarts, 50_000),
    "io: create, start, stop, close": (ios, 20_000),
}
BY_HUB: dict[str, tuple[Task, int]] = {
    "to the hub and back": (switches, 10_000),
    "gevent.sleep(0)": (sleeps, 10_000),
    "gevent.sleep(0), a Timeout pending": (sleeps_under_timeout, 10_000),
    "gevent.Timeout: start, close": (timeouts, 10_000),
    "spawn, sleep(0.0001), join": (naps, 2_000),
    "gevent.spawn to its end": (greenlets.spawn_with(gevent.spawn), 3_000),
    "socket pair: there and back": (round_trips, 1_000),
    "Event: set, wait, there and back": (events, 3_000),
}
TASKS = DIRECT | BY_HUB
GOALS = {("gevent.spawn to its end", "cached"): 0.4}
"""Of the baseline, where it is not 1: a task and the last word of a loop's name."""


def perform(name: str) -> float:
    """Do a task; CPU nanoseconds per thing done."""
    task, count = TASKS[name]
    gc.collect()
    before = time.process_time_ns()
    task(count)
    return (time.process_time_ns() - before) / count


def about() -> str:
    """The loop that this process runs on."""
    loop = gevent.get_hub().loop
    return f"{type(loop).__module__}.{type(loop).__qualname__} ({loop.backend})"


def child() -> None:
    """Perform the tasks whose names come in, a line each."""
    print(json.dumps(about()), flush=True)
    for line in sys.stdin:
        print(json.dumps(perform(line.rstrip("\n"))), flush=True)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """The same in a worker: the query is the task's number; `/about` and `/` answer at once."""
    body = b"Hello, world!"
    if environ["PATH_INFO"] == "/about":
        body = json.dumps(about()).encode()
    elif query := environ["QUERY_STRING"]:
        body = json.dumps(perform(list(TASKS)[int(query)])).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# The program's side.


@dataclass(frozen=True)
class Loop:
    """A column of the report."""

    about: str
    """What `about` says of it."""
    environment: dict[str, str]
    worker_options: list[str] | None = None
    """With these, a worker of rgunicorn instead of a bare process."""


def _ours(driver: str) -> dict[str, str]:
    return {"GEVENT_LOOP": "rgunicorn.gevent.Loop", "RGUNICORN_IO_DRIVER": driver}


def _worker(driver: str) -> list[str]:
    return ["-k", "gevent", "--io-driver", driver, "--frame-cache-chunks", "1000"]


LOOPS = {
    "libev": Loop(servers.LIBEV, {"GEVENT_LOOP": "libev-cext"}),
    "uring": Loop(servers.URING, _ours("uring")),
    "epoll": Loop(servers.EPOLL, _ours("epoll")),
    "uring cached": Loop(servers.URING, {}, _worker("uring")),
    "epoll cached": Loop(servers.EPOLL, {}, _worker("epoll")),
    # The sync worker leaves gevent alone: the loop is what the environment says, and runs inside the request.
    "libev cached": Loop(servers.LIBEV, {"GEVENT_LOOP": "libev-cext"}, ["-k", "sync", "--frame-cache-chunks", "1000"]),
    "libev-cffi": Loop("gevent.libev.corecffi.loop (epoll)", {"GEVENT_LOOP": "libev-cffi"}),
    "libuv": Loop("gevent.libuv.loop.loop (default)", {"GEVENT_LOOP": "libuv-cffi"}),
}
DEFAULT = ["libev", "uring", "epoll", "uring cached", "epoll cached"]


class Process:
    """A loop in a process of its own: one for the tasks that run it, another for those that leave it to the hub."""

    def __init__(self, loop: Loop, cpu: int, stack: contextlib.ExitStack) -> None:
        command = ["taskset", "-c", str(cpu), sys.executable, __file__, "--child"]
        environment = os.environ | loop.environment
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = stack.enter_context(subprocess.Popen(command, env=environment, text=True, **pipes))
        self.about = str(self.answer())

    def answer(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        raise RuntimeError(self.process.stderr.read())

    def perform(self, name: str) -> float:
        """Nanoseconds per thing done."""
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)
        return float(self.answer())


class Worker:
    """A loop in a worker of rgunicorn."""

    def __init__(self, loop: Loop, cpu: int, stack: contextlib.ExitStack) -> None:
        here = str(pathlib.Path(__file__).resolve().parent)
        options = [*(loop.worker_options or []), "--timeout", "0", "--pythonpath", here]
        command = servers.gunicorn("rgunicorn", *options, app="loop:app")
        server = servers.Server("worker", "rgunicorn", command, loop.environment)
        self.port, _ = stack.enter_context(servers.running(server, cpu))
        self.about = str(json.loads(servers.get(self.port, "/about")))

    def perform(self, name: str) -> float:
        """Nanoseconds per thing done."""
        return float(servers.get(self.port, f"/?{list(TASKS).index(name)}"))


class Measured:
    """A loop that has started, and who does which tasks on it."""

    def __init__(self, loop: Loop, cpu: int, stack: contextlib.ExitStack) -> None:
        self.hub = Worker(loop, cpu, stack) if loop.worker_options else Process(loop, cpu, stack)
        self.direct = None if loop.worker_options else Process(loop, cpu, stack)
        if self.hub.about != loop.about:
            raise RuntimeError(f"it is {self.hub.about}, not {loop.about}")

    def perform(self, name: str) -> float | None:
        """Nanoseconds per thing done; `None` where the task is not done."""
        doer = self.direct if name in DIRECT else self.hub
        return doer.perform(name) if doer else None


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    names = [name for name in TASKS if args.only in name]
    runs: dict[str, list[Round]] = {name: [] for name in names}
    abouts: dict[str, str] = {}
    for number in range(args.starts):
        with contextlib.ExitStack() as stack:
            started = dict(start(args, stack))
            if abouts and set(started) != set(abouts):
                sys.exit("not all loops have started again")
            abouts = {name: measured.hub.about for name, measured in started.items()}
            args.loops = list(started)
            rounds(args, started, runs)
        report.say(f"start {number + 1}/{args.starts}")
    baseline, *others = abouts
    facts = report.machine() | abouts
    facts |= {name: servers.version(name) or "?" for name in ("gevent", "greenlet")}
    facts["commit"] = report.commit()
    facts["how"] = (
        f"CPU time on CPU {args.cpu}, {args.starts} starts of {args.rounds} rounds each, interleaved; {baseline}: "
        f"median [min–max]; others: median of the rounds' ratios to {baseline} (least and greatest of the starts' "
        "medians), "
        "bold where the goal is missed: 1, and 0.4 for gevent.spawn with cached frame chunks"
    )
    print(report.header("gevent's loop: libev and ours", facts))
    rows = [row(args, name, runs[name], baseline, others) for name in names]
    print(report.table(["one of", f"{baseline}, ns", *others], rows))
    report.save(args.json, {"facts": facts, "runs": runs})


def rounds(args: argparse.Namespace, started: dict[str, Measured], runs: dict[str, list[Round]]) -> None:
    """A round to warm up and those that count, added to `runs`."""
    if not started:
        sys.exit("none of the loops has started")
    for number in range(args.rounds + 1):
        for name, own in runs.items():
            measured = {loop: started[loop].perform(name) for loop in load.rotated(list(started), number)}
            if number:
                own.append(measured)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = f"comma-separated, the first is what ratios are taken to; default: {','.join(DEFAULT)}; also: "
    known += ",".join(name for name in LOOPS if name not in DEFAULT)
    parser.add_argument("--loops", default=DEFAULT, type=loops, help=known)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the tasks whose name contains it")
    parser.add_argument("--starts", default=5, type=int, help="how often all processes are started; default: 5")
    parser.add_argument("--rounds", default=5, type=int, help="of each start; default: 5")
    parser.add_argument("--cpu", default=0, type=int, help="where all loops run")
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def loops(text: str) -> list[str]:
    """``libev,uring``"""
    names = text.split(",")
    if unknown := set(names) - set(LOOPS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(LOOPS)}")
    return names


def start(args: argparse.Namespace, stack: contextlib.ExitStack) -> Iterator[tuple[str, Measured]]:
    """The loops that start."""
    for name in args.loops:
        with contextlib.ExitStack() as own:
            try:
                measured = Measured(LOOPS[name], args.cpu, own)
            except (OSError, RuntimeError, ValueError) as error:
                report.say(f"{name}: left out: {load.reason(error)}")
                continue
            stack.push(own.pop_all())
            yield name, measured


def row(args: argparse.Namespace, name: str, measured: list[Round], baseline: str, others: list[str]) -> list[str]:
    """A line of the table."""
    unit = [run[baseline] or 0.0 for run in measured]
    cells = [cell(args, name, loop, unit, [run[loop] for run in measured]) for loop in others]
    return [name, report.spread(unit, 0), *cells]


def cell(args: argparse.Namespace, name: str, loop: str, unit: list[float], own: list[float | None]) -> str:
    """``0.87 (0.85–0.90)``"""
    ratios = [value / other for value, other in zip(own, unit, strict=True) if value is not None]
    if not ratios:
        return ""
    starts = [statistics.median(ratios[at : at + args.rounds]) for at in range(0, len(ratios), args.rounds)]
    shown = f"{statistics.median(ratios):.2f}"
    missed = float(shown) > GOALS.get((name, loop.rpartition(" ")[2]), 1.0)
    return f"{f'**{shown}**' if missed else shown} ({min(starts):.2f}–{max(starts):.2f})"


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        child()
    else:
        main()
