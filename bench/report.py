"""What every benchmark says about itself: machine, versions, medians with their range."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import servers


def machine() -> dict[str, str]:
    """Where the numbers come from."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    return {
        "cpu": f"{model}, {os.cpu_count()} CPUs",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def versions(chosen: Iterable[servers.Server]) -> dict[str, str]:
    """Versions of the servers, and the commit of rgunicorn."""
    found = {server.package: servers.version(server.package) or "?" for server in chosen}
    if "gunicorn" in found:
        found["gevent"] = servers.version("gevent") or "not installed"
    if "rgunicorn" in found:
        found["rgunicorn"] += f" ({commit()})"
    return found


def commit() -> str:
    """The commit that setup.sh has built, with a mark when its tree had changes: this tree may have gone on since."""
    built = pathlib.Path(sys.prefix) / "built-from"
    return built.read_text().strip() if built.exists() else "unknown commit"


def spread(values: Sequence[float], digits: int) -> str:
    """``median [min–max]``"""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} [{low:,.{digits}f}–{high:,.{digits}f}]"


def header(title: str, facts: dict[str, str]) -> str:
    """The heading and the list of facts."""
    return "\n".join([f"## {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column left, others right."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *rows]) + "\n"


def save(path: str | None, result: dict[str, Any]) -> None:
    """Write the whole result, single runs included, as JSON."""
    if path:
        pathlib.Path(path).write_text(json.dumps(result, indent=1) + "\n")
        say(f"wrote {path}")


def say(line: str) -> None:
    """A progress line."""
    print(line, file=sys.stderr, flush=True)
