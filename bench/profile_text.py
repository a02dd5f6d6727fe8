"""Where the instructions of a request go: the text of bench/instructions.py --profile."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from callgrind import Function, Profile

OURS = "rgunicorn"
COMPONENTS = [
    (r"/_rgunicorn\.", OURS),
    (r"/libpython|/python3?[\d.]*$", "CPython"),
    (r"/lib-dynload/", "CPython's extensions"),
    (r"/greenlet/", "greenlet"),
    (r"/gevent/", "gevent"),
    (r"/(libc|libm|libpthread)[.-]", "libc"),
    (r"/ld-linux|/ld-[\d.]+so", "dynamic loader"),
]
"""By the path of the object; the first that matches."""

ORIGINS = [
    (r"(?:^|/)crates/([^/]+)/src/", r"crates/\1"),
    (r"/registry/src/[^/]+/([a-z0-9_-]+?)-\d[^/]*/", r"\1"),
    (r"^/?rustc/|/rustlib/|(?:^|/)library/(?:core|std|alloc)/", "Rust's library"),
    (r"(?:^|/)src/([^/]+)/", r"src/\1"),
    (r"(?:^|/)src/([^/]+)$", r"src/\1"),
]
"""By the path of the source file of code in our own library, inlined code at the file where it is written."""


def component(path: str) -> str:
    """The part of the program that an object belongs to."""
    return next((name for pattern, name in COMPONENTS if re.search(pattern, path)), path.rpartition("/")[2])


def origin(path: str) -> str:
    """The crate or folder of a source file."""
    for pattern, name in ORIGINS:
        if match := re.search(pattern, path):
            return match.expand(name)
    return "no debug information" if path == "???" else path


def text(title: str, profile: Profile, top: int) -> str:
    """All tables for one scenario and server."""
    inclusive = profile.inclusive()
    own_files = {file: cost for (where, file), cost in profile.files.items() if component(where) == OURS}
    parts = [f"### {title}: {profile.total:,.0f} instructions per request\n"]
    parts += _rows("by part of the program", by_part(profile))
    parts += _rows("own library, by crate or folder", _summed((origin(file), n) for file, n in own_files.items()))
    parts += _rows("own library, by source file", Counter({short(file): n for file, n in own_files.items()}), top)
    parts += _rows("functions, exclusive", _named(profile.exclusive), top)
    own = Counter({f: n for f, n in inclusive.items() if component(f.object) == OURS})
    parts += _rows("own functions, with what they call", _named(own), top)
    parts += _rows("calls out of our own library, with all that they call", _called_by_us(profile), top)
    return "\n".join(parts)


def by_part(profile: Profile) -> Counter[str]:
    """Instructions of each part of the program."""
    return _summed((component(f.object), cost) for f, cost in profile.exclusive.items())


def _called_by_us(profile: Profile) -> Counter[str]:
    """The cost of calls out of our library, by the function that is called."""
    out = {edge for edge in profile.calls if component(edge[0].object) == OURS != component(edge[1].object)}
    counts = _summed((readable(callee.name), profile.calls[caller, callee]) for caller, callee in out)

    def told(callee: Function) -> str:
        name = readable(callee.name)
        return f"{name} ({component(callee.object)}, {counts[name]:,.1f} calls)"

    return _summed((told(callee), profile.call_costs[caller, callee]) for caller, callee in out)


def _summed(pairs: Iterable[tuple[str, float]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, cost in pairs:
        sums[name] += cost
    return sums


def _named(costs: Counter[Function]) -> Counter[str]:
    return _summed((f"{readable(f.name)} ({component(f.object)}, {short(f.file)})", n) for f, n in costs.items())


def readable(name: str) -> str:
    """A Rust name without its hash, and without the level of recursion that callgrind adds."""
    return re.sub(r"::h[0-9a-f]{16}\b|'\d+$", "", name)


def short(file: str) -> str:
    """The last three parts of a path."""
    return "/".join(file.split("/")[-3:])


def _rows(title: str, costs: Counter[str], top: int | None = None) -> list[str]:
    rows = [f"{cost:10,.1f}  {name}" for name, cost in costs.most_common(top) if abs(cost) >= 0.5]
    return [f"{title}:", *rows, ""]
