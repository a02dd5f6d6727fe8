"""The recorded figures of bench/instructions.py: one record for each environment that they were taken in."""

from __future__ import annotations

import json
import pathlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

HEADER = """\
# Instructions per request, recorded by `bench/instructions.py --record`, compared by `--check`. A figure is compared
# with a record only where every fact that it depends on is the same; a new environment adds a record of its own.
"""
SAME_PLACE = ("cpu", "python", "build")
"""A new record takes the place of one that has the same of these: its other tools have gone."""


@dataclass
class Record:
    """Figures and the environment that they were taken in."""

    environment: dict[str, str]
    figures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """How a figure compares with what was recorded."""

    text: str
    failed: bool = False
    compared: bool = True
    """False where no record is of an environment like this one."""


def read(path: pathlib.Path) -> list[Record]:
    """The records of a file; none if there is no file."""
    if not path.exists():
        return []
    return [Record(each["environment"], each["figures"]) for each in tomllib.loads(path.read_text())["record"]]


def merged(records: Iterable[Record], new: Record) -> list[Record]:
    """The records with a new one, which keeps the other figures of the same environment."""
    others, figures = [], {}
    for record in records:
        if record.environment == new.environment:
            figures = record.figures
        elif any(record.environment.get(name) != new.environment.get(name) for name in SAME_PLACE):
            others.append(record)
    return [*others, Record(new.environment, figures | new.figures)]


def written(records: Iterable[Record]) -> str:
    """The file's text."""
    lines = [HEADER]
    for record in records:
        lines += ["[[record]]", "", "[record.environment]", *map(_entry, record.environment.items()), ""]
        lines += ["[record.figures]", *map(_entry, sorted(record.figures.items())), ""]
    return "\n".join(lines)


def _entry(item: tuple[str, Any]) -> str:
    # A JSON string without characters beyond ASCII is a TOML string.
    key, value = item
    return f"{json.dumps(key)} = {json.dumps(value)}"


def compare(
    records: Iterable[Record], environment: dict[str, str], facts: set[str], name: str, figure: float, percent: float
) -> Verdict:
    """Compare the figure `name`, which depends on `facts` of the environment, with its record; `percent` is allowed."""
    known = [record for record in records if name in record.figures]
    if not known:
        return Verdict("NOT RECORDED", failed=True)
    different = [_differences(record.environment, environment, facts) for record in known]
    same = [record for record, differences in zip(known, different, strict=True) if not differences]
    if not same:
        return Verdict(f"not comparable: {'; '.join(min(different, key=len))}", compared=False)
    recorded = same[0].figures[name]
    change = (figure / recorded - 1) * 100
    text = f"{round(change, 1) + 0.0:+.1f}% of {recorded:,}"
    if figure > recorded * (100 + percent) / 100:
        return Verdict(f"{text}: MORE than {percent:g}% above", failed=True)
    return Verdict(f"{text}: the record should be lowered" if change < -percent else text)


def _differences(recorded: dict[str, str], here: dict[str, str], facts: set[str]) -> list[str]:
    def told(environment: dict[str, str], fact: str) -> str:
        return environment.get(fact, "unknown")

    different = [fact for fact in sorted(facts) if _unlike(told(recorded, fact), told(here, fact))]
    return [f"{fact} is {told(here, fact)}, not {told(recorded, fact)}" for fact in different]


def _unlike(one: str, other: str) -> bool:
    """Tell whether two facts differ; an unknown one differs from everything."""
    return one != other or one == "unknown"
