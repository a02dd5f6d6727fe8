"""The plots of bench/field.py, as SVG files. The only module that needs matplotlib."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import load
import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from cases import PARTS
from field_report import PERCENTILES, Saved, in_case, rows
from field_run import is_peer
from steady import Row

COLOURS = {
    "rgunicorn uring": "#b30000",
    "rgunicorn epoll": "#ff7f50",
    "floor uring": "#000000",
    "floor epoll": "#808080",
    "floor tokio-uring": "#b0b0b0",
}
# Neither red nor grey: those are rgunicorn and its floor.
PEERS = [colour for number, colour in enumerate(plt.get_cmap("tab20").colors) if number not in (2, 3, 6, 7, 14, 15)]
SWEEPS = ("hello", "bodies", "headers", "workers")
LOGARITHMIC = ("hello", "bodies")
SIZE_INCHES = (11, 4.5)
MARKERS = "osv^D<>PX*hd"

# The same figures give the same bytes.
mpl.rcParams["svg.hashsalt"] = "rgunicorn"


def draw(saved: Saved, directory: pathlib.Path) -> Mapping[str, Sequence[str]]:
    """Write the plots of all parts that have some; gives their names."""
    colour = colours(saved)
    found: dict[str, list[str]] = {}
    for part in dict.fromkeys(case["part"] for case in saved["cases"]):
        cases = [case for case in saved["cases"] if case["part"] == part and rows(case, saved)]
        if not cases:
            continue
        if part == "latency":
            for case in cases:
                name = f"latency-{case['point']}.svg"
                save(percentiles(case, saved, colour), directory / name)
                found.setdefault(part, []).append(name)
        elif part in SWEEPS and len(cases) > 1:
            save(sweep(part, cases, saved, colour), directory / f"{part}.svg")
            found[part] = [f"{part}.svg"]
        else:
            save(bars(cases[-1], saved, colour), directory / f"{part}.svg")
            found[part] = [f"{part}.svg"]
    return found


def colours(saved: Saved) -> Mapping[str, Any]:
    """One colour for each server, the same in all plots."""
    names = sorted({run["server"] for run in saved["runs"]})
    peers = [name for name in names if is_peer(name)]
    return COLOURS | {name: PEERS[index % len(PEERS)] for index, name in enumerate(peers)}


def sweep(part: str, cases: Sequence[Saved], saved: Saved, colour: Mapping[str, Any]) -> Any:
    """Requests/s and CPU per request over the points of a part; bars show the quartiles."""
    figure, axes = plt.subplots(1, 2, figsize=SIZE_INCHES)
    points: dict[str, list[tuple[int, Row]]] = {}
    for case in cases:
        for row in rows(case, saved):
            points.setdefault(row.server, []).append((case["point"], row))
    for number, (name, own) in enumerate(points.items()):
        style = {"color": colour[name], "label": name, "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
        style |= {"linewidth": 1 if is_peer(name) else 2.5, "linestyle": "--" if name.startswith("floor ") else "-"}
        for axis, key in zip(axes, ("rate", "cpu"), strict=True):
            found = [getattr(row, key) for _, row in own]
            low, high = [each.middle - each.low for each in found], [each.high - each.middle for each in found]
            middles = [each.middle for each in found]
            axis.errorbar([point for point, _ in own], middles, yerr=[low, high], capsize=2, **style)
    for axis, title in zip(axes, ("requests/s", "server CPU, us/request"), strict=True):
        if part in LOGARITHMIC:
            axis.set_xscale("log")
        axis.set(title=title, xlabel=PARTS[part].what, yscale="log")
        axis.grid(visible=True, which="both", alpha=0.2)
    axes[1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def bars(case: Saved, saved: Saved, colour: Mapping[str, Any]) -> Any:
    """CPU per request of each server, the cheapest at the top; what is marked is pale."""
    found = sorted(rows(case, saved), key=lambda row: -row.cpu.middle)
    figure, axis = plt.subplots(figsize=(SIZE_INCHES[0] * 0.7, 0.3 * len(found) + 1.2))
    for row in found:
        errors = [[row.cpu.middle - row.cpu.low], [row.cpu.high - row.cpu.middle]]
        label = f"{row.server} *" if row.remark else row.server
        axis.barh(
            label, row.cpu.middle, xerr=errors, color=colour[row.server], alpha=0.35 if row.remark else 1, capsize=2
        )
        axis.annotate(f" {row.cpu.middle:,.1f}", (row.cpu.high, label), va="center", fontsize="small")
    axis.set(title=case["title"], xlabel="server CPU, us/request", xscale="log")
    axis.margins(x=0.15)
    if any(row.remark for row in found):
        axis.set_xlabel("server CPU, us/request (* not compared: see the table)")
    return figure


def percentiles(case: Saved, saved: Saved, colour: Mapping[str, Any]) -> Any:
    """Latency over the share of requests that had at most that, in an open loop."""
    figure, axis = plt.subplots(figsize=SIZE_INCHES)
    places = range(len(PERCENTILES) + 1)
    for number, (name, runs) in enumerate(load.by_server(in_case(saved["runs"], case)).items()):
        keys = [*PERCENTILES, "max"]
        # The generator counts in whole microseconds.
        times = [max(statistics.median(run["latency_us"][key] for run in runs), 1) / 1_000 for key in keys]
        style = {"linewidth": 1 if is_peer(name) else 2.5, "linestyle": "--" if name.startswith("floor ") else "-"}
        axis.plot(places, times, color=colour[name], label=name, marker=MARKERS[number % len(MARKERS)], **style)
    axis.set_xticks(list(places), [f"{value:g}%" for value in PERCENTILES.values()] + ["worst"])
    title = f"{case['title']}: from due to answered"
    axis.set(title=title, xlabel="of all requests", ylabel="ms", yscale="log")
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def save(figure: Any, path: pathlib.Path) -> None:
    """Write one plot."""
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
