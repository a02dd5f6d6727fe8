"""Runs of bench/field.py: one server under one load, and rounds of all servers until they are enough."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import arrivals
import load
import report
import servers
import steady
from cases import Case, Load
from servers import Server

LOADGEN = servers.ROOT / "target" / "release" / "loadgen"
FLOOR = "floor "
FAILURES_MAX = 2
"""A server that has failed so often in a case is left out of its further rounds."""
OTHERS_SHARE_MAX = 0.1
TRIES_MAX = 3
DISTURBED = (
    f"A slice during which others took more than {OTHERS_SHARE_MAX:.0%} of the server's CPU is made again, up to "
    f"{TRIES_MAX} times in all; the last one counts, whatever it was."
)
GATHER_S = 90.0
"""The generator's own limit for opening its connections, and some."""

Run = dict[str, Any]


@dataclass
class Results:
    """All that was measured, as it is saved."""

    facts: dict[str, str]
    cases: list[dict[str, Any]] = field(default_factory=list)
    """Of each case that was begun: part, point, title, its commands."""
    runs: list[Run] = field(default_factory=list)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    """Part, point, server, and why it is not compared there."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Part, point, server, round, and the reason."""

    def of(self, case: Case) -> list[Run]:
        """The runs of a case."""
        return [run for run in self.runs if (run["part"], run["point"]) == (case.part, case.point)]


def generator_command(port: int, load: Load, seconds: float) -> list[str]:
    """The load generator of the benches."""
    words = ["-c", str(load.connections), "-d", f"{seconds:g}", "--announce", "--quiet"]
    for option, value in [("--rate", load.rate), ("--idle", load.idle), ("--body-bytes", load.body_bytes)]:
        words += [option, str(value)] if value else []
    words += ["--pipeline", str(load.pipeline)] if load.pipeline > 1 else []
    words += [word for header in load.headers for word in ("--header", header)]
    return [str(LOADGEN), f"http://127.0.0.1:{port}{load.path}", *words]


class Window:
    """CPU time of a server between two moments."""

    def __init__(self, pid: int, cpus: Sequence[int]):
        self.pid = pid
        self.cpus = cpus
        self.begin()

    def begin(self) -> None:
        """Count from now."""
        self.cpu_ns = servers.cpu_ns(self.pid)
        self.busy_ns = sum(map(servers.busy_ns, self.cpus))
        self.started_s = time.monotonic()

    def end(self) -> Run:
        """What was used since: of the server, and of others on its CPUs."""
        used_ns = servers.cpu_ns(self.pid) - self.cpu_ns
        elapsed_s = time.monotonic() - self.started_s
        busy_ns = sum(map(servers.busy_ns, self.cpus)) - self.busy_ns
        others_share = max(busy_ns - used_ns, 0) / 1e9 / elapsed_s / len(self.cpus)
        return {"cpu_ns": used_ns, "others_share": others_share}


def generated(args: argparse.Namespace, port: int, made: Load, seconds: float, window: Window) -> Run:
    """Make a load with the generator; the window begins when all its connections are open."""
    command = ["taskset", "-c", str(args.load_cpu), *generator_command(port, made, seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            begun = process.stdout.readline()
            window.begin()
            line = process.stdout.readline() if begun == "started\n" else ""
            used = window.end()
            _, said = process.communicate(timeout=GATHER_S)
        finally:
            process.kill()
    if not line:
        raise RuntimeError(f"the load generator says: {said.strip()}")
    result = json.loads(line)
    keys = ["requests", "requests_per_s", "latency_us"]
    open_loop = ["due", "unanswered", "lateness_us"] if made.rate else []
    idle = ["idle_lost"] if made.idle else []
    found = {key: result[key] for key in [*keys, *open_loop, *idle]}
    return {**found, "seconds": result["elapsed_s"], "errors": result["errors_total"], **used}


@dataclass
class Running:
    """A server that is up, and what it has done so far in a round."""

    server: Server
    port: int
    window: Window
    slices: list[Run] = field(default_factory=list)


def start(args: argparse.Namespace, case: Case, server: Server, until: contextlib.ExitStack) -> Running:
    """Start a server, look whether it answers rightly, warm it up."""
    cpus = args.worker_cpus if case.workers > 1 else [args.server_cpu]
    ready = functools.partial(arrivals.check, case, is_floor(server))
    port, pid = until.enter_context(servers.running(server, ",".join(map(str, cpus)), ready))
    running = Running(server, port, Window(pid, cpus))
    if args.warm_up:
        # The same load but for its rate, its crowd, and a connection or two.
        few = dataclasses.replace(case.load, connections=min(case.load.connections, 64), rate=0, idle=0)
        generated(args, port, few, args.warm_up, running.window)
    return running


def measure(args: argparse.Namespace, case: Case, running: Running) -> Run:
    """Make one slice of a load."""
    run = generated(args, running.port, case.load, args.seconds / case.load.slices, running.window)
    if not run["requests"] or run["cpu_ns"] <= 0:
        raise RuntimeError("it has answered nothing, or left")
    return run


def undisturbed(args: argparse.Namespace, case: Case, running: Running) -> Run:
    """Measure until others have left the server's CPU alone, or often enough."""
    for tried in range(1, args.tries + 1):
        run = measure(args, case, running)
        if run["others_share"] <= OTHERS_SHARE_MAX or tried == args.tries:
            return {**run, "tries": tried}
        report.say(f"{case.title}, {running.server.name}: others took {run['others_share']:.0%}, made again")
    raise ValueError("it is to be tried at least once")


def together(slices: Sequence[Run]) -> Run:
    """One run of all its slices; what only a whole load has is that of the first."""
    sums = {key: sum(each[key] for each in slices) for key in ("requests", "errors", "cpu_ns", "seconds")}
    others_s = sum(each["others_share"] * each["seconds"] for each in slices)
    return {
        **slices[0],
        **sums,
        "tries": max(each["tries"] for each in slices),
        "others_share": others_s / sums["seconds"],
        "requests_per_s": sums["requests"] / sums["seconds"],
        "cpu_us_per_request": sums["cpu_ns"] / 1_000 / sums["requests"],
    }


def is_floor(server: Server) -> bool:
    """It runs no application."""
    return server.name.startswith(FLOOR)


def is_peer(name: str) -> bool:
    """A server of others, by its name."""
    return not name.startswith((FLOOR, "rgunicorn "))


def servers_of(args: argparse.Namespace, case: Case) -> list[Server]:
    """The servers of a case that are installed and were asked for."""
    table = servers.table(case.app, case.workers)
    table += servers.floors(case.floor_bytes) if case.floor_bytes is not None else []
    known = {server.name for server in table}
    # Some cannot do some cases, and are no mistake of the caller.
    names = [name for name in args.servers if name in known] if args.servers else sorted(known)
    chosen = [server for server in table if server.name in names and servers.version(server.package) is not None]
    return [dataclasses.replace(server, environment=server.environment | case.environment) for server in chosen]


def rounds(args: argparse.Namespace, case: Case, results: Results) -> Iterator[int]:
    """Measure a case until it is enough; gives the number of each round that is over."""
    chosen = servers_of(args, case)
    failed: dict[str, int] = {}
    if case.part == "stream":
        results.remarks += list(looks(args, case, chosen))
    for number in range(args.rounds_max):
        going = [server for server in chosen if failed.get(server.name, 0) < FAILURES_MAX]
        for name, run in one_round(args, case, going, number):
            place = {"part": case.part, "point": case.point, "server": name, "round": number}
            if isinstance(run, Exception):
                failed[name] = failed.get(name, 0) + 1
                results.failures.append({**place, "reason": load.reason(run)})
                report.say(f"{case.title}, {name}, round {number + 1}: {load.reason(run)}")
                continue
            results.runs.append({**place, **run})
            report.say(progress(case, results.runs[-1]))
        yield number
        runs = [run for run in results.of(case) if failed.get(run["server"], 0) < FAILURES_MAX]
        if steady.is_enough(samples(runs).values(), number + 1, args.rounds, args.rounds_max):
            return


FAILURES = (RuntimeError, OSError, subprocess.SubprocessError)


def one_round(
    args: argparse.Namespace, case: Case, going: Sequence[Server], number: int
) -> Iterator[tuple[str, Run | Exception]]:
    """Start all servers, then let them take turns, a slice of the load each; gives what each has done, or its error.

    A machine that becomes slower meanwhile is slower for all of them; those that wait cost nothing.
    """
    with contextlib.ExitStack() as until:
        up = []
        for server in load.rotated(going, number) if going else []:
            try:
                up.append(start(args, case, server, until))
            except FAILURES as error:
                yield server.name, error
        for turn in range(case.load.slices):
            for running in load.rotated(up, turn) if up else []:
                try:
                    running.slices.append(undisturbed(args, case, running))
                except FAILURES as error:
                    up.remove(running)
                    yield running.server.name, error
        for running in up:
            yield running.server.name, together(running.slices)


def looks(args: argparse.Namespace, case: Case, chosen: Sequence[Server]) -> Iterator[dict[str, Any]]:
    """Remarks about servers that do not stream."""
    for server in chosen:
        with contextlib.suppress(RuntimeError, OSError, subprocess.SubprocessError):
            ready = functools.partial(arrivals.check, case, False)
            with servers.running(server, args.server_cpu, ready) as (port, _):
                remark = arrivals.look_at_stream(port)
            if remark:
                report.say(f"{case.title}, {server.name}: {remark}")
                yield {"part": case.part, "point": case.point, "server": server.name, "remark": remark}


def samples(runs: Sequence[Run]) -> dict[str, list[float]]:
    """What must be steady of each server: its CPU per request beside those of the others of the same round."""
    rounds = steady.by_round((run["round"], run["server"], run["cpu_us_per_request"]) for run in runs)
    return steady.beside_others(rounds)


def progress(case: Case, run: Run) -> str:
    """The line about a run that is over."""
    return (
        f"{case.title}, round {run['round'] + 1}, {run['server']:17}{run['cpu_us_per_request']:8.1f} us/request "
        f"{run['requests_per_s']:9.0f}/s  {run['errors']} errors, others {run['others_share']:.0%}"
    )
