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
    f"A ratio to the best peer is the median of the ratios of each round. Rounds are made until all servers are "
    f"steady, or their number is used up: CPU per request is divided by that of the middle server of its round, and "
    f"{NOTCH} x (upper - lower quartile) / sqrt(rounds), the notch of a box plot, is at most {WOBBLE_MAX:.0%} of the "
    f"median."
)

ByRound = Mapping[int, Mapping[str, float]]
"""Of each round the figure of each server."""


def by_round(figures: Iterable[tuple[int, str, float]]) -> ByRound:
    """Figures with their round and server, by round."""
    rounds: dict[int, dict[str, float]] = {}
    for number, server, figure in figures:
        rounds.setdefault(number, {})[server] = figure
    return rounds


def beside_others(rounds: ByRound) -> dict[str, list[float]]:
    """Of each server its figures, divided by the middle one of their round: what a slow minute does to all is gone.

    A server that was alone in all rounds has nothing beside it.
    """
    found: dict[str, list[float]] = {}
    is_alone = len({server for figures in rounds.values() for server in figures}) == 1
    for figures in rounds.values():
        middle = 1.0 if is_alone else statistics.median(figures.values())
        for server, figure in figures.items():
            found.setdefault(server, []).append(figure / middle)
    return found


def ratio(figures: Mapping[int, float], others: Mapping[int, float]) -> float:
    """The median of the ratios of each round that both have; where there is none, the ratio of the medians."""
    common = figures.keys() & others.keys()
    if not common:
        return statistics.median(figures.values()) / statistics.median(others.values())
    return statistics.median(figures[number] / others[number] for number in common)


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
    cpu_by_round: Mapping[int, float]
    """Microseconds for a request."""
    rate_by_round: Mapping[int, float]
    """Requests per second."""
    requests: int
    errors: int
    remark: str = ""
    """Why it is not compared, or nothing."""

    @property
    def cpu(self) -> Quartiles:
        """Of all rounds."""
        return quartiles(list(self.cpu_by_round.values()))

    @property
    def rate(self) -> Quartiles:
        """Of all rounds."""
        return quartiles(list(self.rate_by_round.values()))

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
    return {
        row.server: (ratio(row.cpu_by_round, best.cpu_by_round), ratio(row.rate_by_round, best.rate_by_round))
        for row in rows
    }
