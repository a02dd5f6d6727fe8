"""What bench/field.py measures: the parts, and the cases that each is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from scenarios import BROWSER

HELLO = b"Hello, world!"
STREAM_ITEM = b"An item of a stream of items, each about as long as a line of text that comes by itself.\n"
STREAM_ITEMS = 20
UPLOAD_BYTES = 10_000
LARGE_BYTES = 100_000
JSON_BYTES = 612
"""As many as `answer_json` says; for the floor."""
CONNECTIONS = 64
SLICES = 6
"""A load is made in so many parts, between which the other servers have theirs."""
SLICED_CONNECTIONS_MAX = 1_000
"""More are opened once: that takes longer than a part."""

# Nine fields besides Host: those that say most about a browser.
BROWSER_HEADERS = tuple(line.decode() for line in BROWSER.splitlines()[2:11])


@dataclass(frozen=True)
class Load:
    """One kind of load."""

    connections: int = CONNECTIONS
    path: str = "/"
    headers: tuple[str, ...] = ()
    body_bytes: int = 0
    """Of the request: POST if there are any."""
    pipeline: int = 1
    rate: int = 0
    """Requests that are due in a second, in an open loop; 0: the next one is sent when one was answered."""
    idle: int = 0
    """Connections that ask nothing meanwhile."""

    @property
    def slices(self) -> int:
        """Parts in which it is made. Latencies are those of one long load."""
        few = self.connections + self.idle <= SLICED_CONNECTIONS_MAX
        return SLICES if few and not self.rate else 1


@dataclass(frozen=True)
class Case:
    """One table of the report."""

    part: str
    point: int
    """Its place on the x axis of its part."""
    title: str
    app: str
    load: Load
    expected: Callable[[bytes], bool]
    """Whether a body is the right one."""
    floor_bytes: int | None = None
    """Bytes of the floor's answers; `None`: the floor cannot do the like."""
    workers: int = 1
    environment: dict[str, str] = field(default_factory=dict)


def hello(part: str, point: int, title: str, load: Load, workers: int = 1) -> Case:
    """A case of the smallest application."""
    floor = len(HELLO) if workers == 1 else None
    return Case(part, point, title, "bench_hello:app", load, HELLO.__eq__, floor, workers)


def sized(part: str, body_bytes: int) -> Case:
    """A case of an answer of so many bytes."""
    environment = {"BENCH_BODY_BYTES": str(body_bytes)}
    title = f"an answer of {body_bytes:,} bytes"
    app = "bench_field:sized"
    expected = (b"x" * body_bytes).__eq__
    return Case(part, body_bytes, title, app, Load(), expected, body_bytes, environment=environment)


def is_json(body: bytes) -> bool:
    """Ten rows."""
    try:
        return len(json.loads(body)["rows"]) == 10
    except (ValueError, KeyError, TypeError):
        return False


def plural(count: int, noun: str) -> str:
    """``1,000 connections``"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def hellos(points: list[int]) -> list[Case]:
    return [hello("hello", count, f"hello, {plural(count, 'connection')}", Load(count)) for count in points]


def jsons(_: list[int]) -> list[Case]:
    load = Load(path="/api/items?page=2", headers=BROWSER_HEADERS)
    title = f"JSON, {len(BROWSER_HEADERS)} browser headers"
    return [Case("json", 0, title, "bench_field:answer_json", load, is_json, JSON_BYTES)]


def uploads(_: list[int]) -> list[Case]:
    answer = str(UPLOAD_BYTES).encode()
    load = Load(body_bytes=UPLOAD_BYTES)
    return [Case("post", 0, "POST of 10 kB", "bench_field:upload", load, answer.__eq__, len(answer))]


def larges(_: list[int]) -> list[Case]:
    return [sized("large", LARGE_BYTES)]


def streams(_: list[int]) -> list[Case]:
    title = f"{STREAM_ITEMS} streamed items"
    body = STREAM_ITEM * STREAM_ITEMS
    return [Case("stream", 0, title, "bench_field:stream", Load(), body.__eq__)]


def pipelines(points: list[int]) -> list[Case]:
    return [hello("pipelined", count, f"hello, {count} pipelined", Load(pipeline=count)) for count in points]


def flasks(_: list[int]) -> list[Case]:
    return [Case("flask", 0, "hello of Flask", "bench_flask:app", Load(), HELLO.__eq__)]


def bodies(points: list[int]) -> list[Case]:
    return [sized("bodies", size) for size in points]


def headers(points: list[int]) -> list[Case]:
    def load(count: int) -> Load:
        return Load(headers=tuple(f"X-Field-{number}: value of field {number}" for number in range(count)))

    return [hello("headers", count, f"hello, {plural(count, 'more header')}", load(count)) for count in points]


def workers(points: list[int]) -> list[Case]:
    return [hello("workers", count, f"hello, {plural(count, 'worker')}", Load(), count) for count in points]


def latencies(points: list[int]) -> list[Case]:
    return [hello("latency", rate, f"hello, {rate:,} requests/s are due", Load(rate=rate)) for rate in points]


def idles(points: list[int]) -> list[Case]:
    title = "hello, {} connections beside {:,} idle ones"
    return [hello("idle", count, title.format(CONNECTIONS, count), Load(idle=count)) for count in points]


@dataclass(frozen=True)
class Part:
    """Cases that belong together."""

    what: str
    make: Callable[[list[int]], list[Case]]
    points: tuple[int, ...] = (0,)
    quick: tuple[int, ...] = (0,)
    """The same for a smoke."""


PARTS = {
    "hello": Part("connections", hellos, (1, 64, 1_000, 10_000), (1, 64)),
    "json": Part("JSON with a browser's headers", jsons),
    "post": Part("uploads", uploads),
    "large": Part("large answers", larges),
    "stream": Part("streamed answers", streams),
    "pipelined": Part("pipelined requests", pipelines, (16,), (16,)),
    "flask": Part("a framework", flasks),
    "bodies": Part("bytes of the answer", bodies, (100, 1_000, 10_000, 100_000, 1_000_000), (1_000,)),
    "headers": Part("header fields of the request", headers, (0, 10, 30, 80), (30,)),
    "workers": Part("workers", workers, (1, 2, 4), (2,)),
    "latency": Part("requests that are due in a second", latencies, (1_000, 5_000, 20_000), (1_000,)),
    "idle": Part("idle connections", idles, (1_000, 10_000), (1_000,)),
}


def choose(names: str | None, quick: bool) -> list[Case]:
    """The cases of a comma-separated list of parts, each perhaps with one point (``hello:64``), or of all parts."""
    return [case for name in (names.split(",") if names else PARTS) for case in _named(name, quick)]


def _named(name: str, quick: bool) -> list[Case]:
    name, colon, text = name.partition(":")
    if name not in PARTS:
        raise ValueError(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    if colon and not text.isdecimal():
        raise ValueError(f"{text!r} is no number")
    part = PARTS[name]
    points = [int(text)] if colon else list(part.quick if quick else part.points)
    return part.make(points)
