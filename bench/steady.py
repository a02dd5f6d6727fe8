"""When rounds are enough, and what they say: medians, quartiles, the best peer and ratios to it. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ROUNDS_MIN = 7
ROUNDS_MAX = 21
WOBBLE_MAX = 0.05
"""A median is steady when its notch is no wider than this share of it, to either side."""
NOTCH = 1.57
"""Medians of two sets of rounds differ by more than this, times the quartiles' distance, over the root of their number,
in one of twenty cases: the notch of a box plot."""
ERRORS_SHARE_MAX = 0.001
"""A peer with more errors among its requests is not the best one, however fast it is."""

RULE = (
    f"Rounds are made until the medians of all servers are steady, in CPU per request and in requests/s, or their "
    f"number is used up. A median is steady when {NOTCH} x (upper - lower quartile) / sqrt(rounds), the notch of a box "
    f"plot, is at most {WOBBLE_MAX:.0%} of it."
)


@dataclass(frozen=True)
class Quartiles:
    """The middle of some values, and the middle half of them."""

    low: float
    middle: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Quartiles that are among the values or between two of them; one value is all three."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, middle, high)


def wobble(values: Sequence[float]) -> float:
    """The half width of the median's notch, as a share of the median; infinite where nothing can be said."""
    if len(values) < 2:
        return math.inf
    found = quartiles(values)
    if found.middle <= 0:
        return math.inf
    return NOTCH * (found.high - found.low) / math.sqrt(len(values)) / found.middle


def worst_wobble(samples: Iterable[Sequence[float]]) -> float:
    """The greatest of several; 0 where there is none."""
    return max(map(wobble, samples), default=0.0)


def is_enough(samples: Iterable[Sequence[float]], rounds: int, least: int, most: int) -> bool:
    """Whether no further round is needed after so many; `samples`: what each server's rounds have given."""
    return rounds >= most or (rounds >= least and worst_wobble(samples) <= WOBBLE_MAX)


@dataclass(frozen=True)
class Row:
    """What all rounds of one server say about one case."""

    server: str
    is_peer: bool
    """Neither rgunicorn nor a floor."""
    cpu: Quartiles
    """Microseconds for a request."""
    rate: Quartiles
    """Requests per second."""
    requests: int
    errors: int
    remark: str = ""
    """Why it is not compared, or nothing."""

    @property
    def may_be_best(self) -> bool:
        """It does what was asked."""
        return self.is_peer and not self.remark and self.errors <= self.requests * ERRORS_SHARE_MAX


def best_peer(rows: Iterable[Row]) -> Row | None:
    """The peer with the cheapest request, in the median, of those that do what was asked."""
    return min((row for row in rows if row.may_be_best), key=lambda row: row.cpu.middle, default=None)


def ratios(rows: Sequence[Row]) -> Mapping[str, tuple[float, float]]:
    """Of each server: its CPU per request and its requests/s, both divided by those of the best peer."""
    best = best_peer(rows)
    if best is None:
        return {}
    return {row.server: (row.cpu.middle / best.cpu.middle, row.rate.middle / best.rate.middle) for row in rows}
