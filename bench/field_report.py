"""The report of bench/field.py: what was measured, as Markdown. It measures nothing and draws nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import field_run
import load
import report
import steady
from cases import PARTS
from steady import Quartiles, Row

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
"""The generator's names of them."""
OURS = ("rgunicorn uring", "rgunicorn epoll")

Run = dict[str, Any]
Saved = Mapping[str, Any]
"""`field_run.Results` as a dict, or read from its JSON."""
Plots = Mapping[str, Sequence[str]]
"""The files of each part."""


def markdown(saved: Saved, plots: Plots) -> str:
    """The whole report."""
    lines = ["# The field of WSGI servers", ""]
    if saved["facts"].get("smoke"):
        lines += ["**A smoke of the bench: its figures mean nothing.**", ""]
    lines += [f"- {name}: {value}" for name, value in saved["facts"].items() if name != "smoke"]
    lines += ["", INTRODUCTION, "", "## In short", "", summary(saved)]
    for part in dict.fromkeys(case["part"] for case in saved["cases"]):
        lines += [f"## {part}: {PARTS[part].what}", ""]
        lines += [f"![{part}]({name})\n" for name in plots.get(part, [])]
        for case in saved["cases"]:
            if case["part"] == part:
                lines += [f"### {case['title']}", "", by(case), "", tables(case, saved)]
    return "\n".join([*lines, *failures(saved["failures"]), *commands(saved["cases"])]) + "\n"


INTRODUCTION = f"""\
A figure is the median of its rounds, with the lower and the upper quartile in brackets. The best peer is the one with
the cheapest request in the median among those that do what was asked: a server with a remark, or with more errors than
{steady.ERRORS_SHARE_MAX:.1%} of its requests, is none. The floors run no application: they are rgunicorn's parser alone
on its driver, on which no server can be cheaper, and on tokio-uring's."""


def by(case: Saved) -> str:
    """The application of a case, and how its load was made."""
    several = f", {case['workers']} workers" if case["workers"] > 1 else ""
    return (
        f"`{case['app']}`{several}; in {case['slices']} slices." if case["slices"] > 1 else f"`{case['app']}`{several}."
    )


def rows(case: Saved, saved: Saved) -> list[Row]:
    """One row for each server that has answered in a case, in the order of its first round."""
    own = load.by_server(in_case(saved["runs"], case))
    remarks = {entry["server"]: entry["remark"] for entry in in_case(saved["remarks"], case)}
    return [
        Row(
            server=name,
            is_peer=field_run.is_peer(name),
            cpu_by_round={run["round"]: run["cpu_us_per_request"] for run in runs},
            rate_by_round={run["round"]: run["requests_per_s"] for run in runs},
            requests=sum(run["requests"] for run in runs),
            errors=sum(run["errors"] for run in runs),
            remark=remarks.get(name, ""),
        )
        for name, runs in own.items()
    ]


def in_case(entries: Iterable[Run], case: Saved) -> list[Run]:
    """Those that are about a case."""
    return [entry for entry in entries if (entry["part"], entry["point"]) == (case["part"], case["point"])]


def tables(case: Saved, saved: Saved) -> str:
    """What a case has given."""
    found = sorted(rows(case, saved), key=lambda row: row.cpu.middle)
    if not found:
        return "No server has answered.\n"
    runs = in_case(saved["runs"], case)
    parts = [table(found), f"{steadiness(runs)}\n"]
    if case["part"] in ("latency", "idle"):
        parts.insert(0, latencies([row.server for row in found], load.by_server(runs)))
    return "\n".join(parts)


def table(found: Sequence[Row]) -> str:
    """CPU per request and requests/s, the cheapest request first."""
    ratio, best = steady.ratios(found), steady.best_peer(found)
    lines = []
    for row in found:
        cpu, rate = (f"{each:.2f}" for each in ratio[row.server]) if ratio else ("?", "?")
        remark = row.remark or ("the best peer" if best is row else "")
        figures = [spread(row.cpu, 1), cpu, spread(row.rate, 0), rate, f"{row.errors:,}"]
        lines.append([row.server, *figures, remark])
    columns = ["server", "CPU us/request", "CPU / best peer", "requests/s", "rate / best peer", "errors", "remark"]
    return report.table(columns, lines)


def latencies(names: Sequence[str], own: Mapping[str, Sequence[Run]]) -> str:
    """Percentiles, each the median over the rounds; milliseconds."""
    shown = ("p50", "p90", "p99", "p999")
    lines = []
    for name in names:
        times = {key: [run["latency_us"][key] / 1_000 for run in own[name]] for key in (*shown, "max")}
        cells = [name, *(spread(steady.quartiles(each), 2) for each in times.values())]
        missing = sum(run.get("unanswered", 0) for run in own[name])
        late = statistics.median(run["lateness_us"]["p99"] for run in own[name]) if "lateness_us" in own[name][0] else 0
        lines.append([*cells, f"{missing:,}", f"{late / 1_000:.2f}"])
    columns = ["server", *(f"p{PERCENTILES[key]:g}, ms" for key in shown), "worst, ms", "unanswered", "load late, ms"]
    return report.table(columns, lines)


def spread(found: Quartiles, digits: int) -> str:
    """``median [lower–upper quartile]``"""
    return f"{found.middle:,.{digits}f} [{found.low:,.{digits}f}–{found.high:,.{digits}f}]"


def steadiness(runs: Sequence[Run]) -> str:
    """How many rounds there were, and whether they were enough."""
    number = max(run["round"] for run in runs) + 1
    others = f"Others took {load.others(runs)}."
    if number == 1:
        return f"One round, of which nothing is known but its figures. {others}"
    restless = []
    for name, own in field_run.samples(runs).items():
        worst = steady.wobble(own)
        if worst > steady.WOBBLE_MAX:
            restless.append(name if worst == math.inf else f"{name} (±{worst:.0%})")
    steadily = f"not steady: {', '.join(restless)}" if restless else "all steady"
    return f"{number} rounds, {steadily}. {others}"


def summary(saved: Saved) -> str:
    """A line for each case: the best peer, and rgunicorn beside it."""
    lines = []
    for case in saved["cases"]:
        found = rows(case, saved)
        best, ratio = steady.best_peer(found), steady.ratios(found)
        own = [f"{ratio[name][0]:.2f}" if name in ratio else "?" for name in OURS]
        floor = min((ratio[row.server][0] for row in found if ratio and row.server.startswith("floor ")), default=None)
        lines.append(
            [
                case["title"],
                best.server if best else "none",
                f"{best.cpu.middle:,.1f}" if best else "?",
                *own,
                f"{floor:.2f}" if floor is not None else "",
            ]
        )
    columns = [
        "case",
        "best peer",
        "its CPU us/request",
        *(f"{name} / best peer" for name in OURS),
        "floor / best peer",
    ]
    return report.table(columns, lines)


def failures(entries: Sequence[Run]) -> list[str]:
    """What could not be measured."""
    if not entries:
        return []
    titled = [
        f"- {entry['part']} {entry['point'] or ''}, {entry['server']}, round {entry['round'] + 1}: {entry['reason']}"
        for entry in entries
    ]
    return ["## Runs that failed", "", *titled, ""]


def commands(cases: Sequence[Saved]) -> list[str]:
    """What was run, for those who want to run it by hand: each server's command once, each load."""
    servers: dict[str, str] = {}
    for case in cases:
        servers = dict(case["servers"]) | servers
    intro = "Servers, in `tests/apps`. Cases differ in the application, its environment and the workers only:"
    blocks = [intro, servers.values(), "Loads:", dict.fromkeys(case["load"] for case in cases)]
    lines = ["## Commands"]
    for block in blocks:
        lines += ["", block] if isinstance(block, str) else ["", "```sh", *block, "```"]
    return lines
