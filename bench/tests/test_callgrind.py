"""Tests of what bench/instructions.py and bench/calls.py make of callgrind's files: `pytest bench/tests`."""

from __future__ import annotations

import pathlib
import sys
import tomllib
from collections import Counter

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import baseline
import callgrind
import calls
import profile_text
from baseline import Record
from callgrind import Function, Profile
from calls import Place

TEXT = """\
# callgrind format
version: 1
part: 2
desc: Trigger: --dump-before=sched_get_priority_max

positions: line
events: Ir
summary: 90

ob=(1) /lib/own.so
fl=(1) src/one.rs
fn=(1) outer
10 5
+2 3
fi=(2) src/inlined.rs
* 2
fe=(1)
cfn=(2) inner
calls=4 20
12 40
cob=(2) /lib/libc.so.6
cfi=(3) memcpy.S
cfn=(3) memcpy
calls=1 0
-1 20

fn=(2)
20 40

ob=(2)
fl=(3)
fn=(3)
0 20

totals: 90
"""
OUTER = Function("/lib/own.so", "src/one.rs", "outer")
INNER = Function("/lib/own.so", "src/one.rs", "inner")
MEMCPY = Function("/lib/libc.so.6", "memcpy.S", "memcpy")


def parsed(text: str = TEXT) -> Profile:
    return callgrind.parse(text.splitlines(keepends=True))


def test_costs_are_of_the_function_and_inlined_ones_of_the_file_they_come_from() -> None:
    profile = parsed()
    assert profile.total == 90
    assert profile.exclusive == {OUTER: 10, INNER: 40, MEMCPY: 20}
    assert profile.files["/lib/own.so", "src/one.rs"] == 48
    assert profile.files["/lib/own.so", "src/inlined.rs"] == 2


def test_calls_are_counted_with_what_they_cost() -> None:
    profile = parsed()
    assert profile.calls == {(OUTER, INNER): 4, (OUTER, MEMCPY): 1}
    assert profile.call_costs == {(OUTER, INNER): 40, (OUTER, MEMCPY): 20}
    assert profile.inclusive() == {OUTER: 70, INNER: 40, MEMCPY: 20}


def test_a_call_does_not_move_the_files_of_its_caller() -> None:
    profile = parsed(TEXT.replace("-1 20\n", "-1 20\n+1 7\n"))
    assert profile.exclusive[OUTER] == 17
    assert profile.files["/lib/own.so", "src/one.rs"] == 55


def test_a_line_without_a_cost_costs_nothing() -> None:
    assert parsed(TEXT.replace("+2 3", "+2")).exclusive[OUTER] == 7


def test_the_difference_is_per_request_and_leaves_out_what_both_have() -> None:
    more = parsed(TEXT.replace("fn=(2)\n20 40", "fn=(2)\n20 140").replace("totals: 90", "totals: 190"))
    request = more.per_request(parsed(), 10)
    assert request.total == 10
    assert request.exclusive == {INNER: 10}
    assert request.calls == {}


def part(directory: pathlib.Path, pid: int, number: int, cost: int) -> None:
    text = TEXT.replace("totals: 90", f"totals: {cost}")
    (directory / f"out.{pid}.{number}").write_text(text)


def test_parts_come_in_the_order_of_their_marks(tmp_path: pathlib.Path) -> None:
    for number, cost in ((3, 30), (1, 10), (2, 20)):
        part(tmp_path, 7, number, cost)
    (tmp_path / "out.6.1").write_text(TEXT.replace("--dump-before=sched_get_priority_max", "Program termination"))
    assert [profile.total for profile in callgrind.parts(tmp_path)] == [10, 20, 30]


def test_a_mark_too_few_or_one_of_another_process_is_an_error(tmp_path: pathlib.Path) -> None:
    part(tmp_path, 7, 1, 10)
    with pytest.raises(RuntimeError, match="wanted 3 marks of one process"):
        callgrind.parts(tmp_path)
    for number in (1, 2, 3):
        part(tmp_path, 8, number, 10)
    with pytest.raises(RuntimeError, match="wanted 3 marks of one process"):
        callgrind.parts(tmp_path)


HERE = {"cpu": "x86_64", "python": "CPython 3.11.7", "build": "release", "rustc": "abc"}
FACTS = {"cpu", "rustc"}


def verdict(figure: float, environment: dict[str, str] = HERE, recorded: dict[str, str] = HERE) -> baseline.Verdict:
    return baseline.compare([Record(recorded, {"hello": 1_000})], environment, FACTS, "hello", figure, 3)


@pytest.mark.parametrize(("figure", "failed"), [(1_030, False), (1_031, True), (969, False), (1_000, False)])
def test_more_than_three_percent_above_the_record_fails(figure: float, failed: bool) -> None:
    assert verdict(figure).failed is failed


def test_a_record_that_is_too_high_is_told() -> None:
    assert "should be lowered" in verdict(969).text
    assert "should be lowered" not in verdict(971).text


def test_what_is_not_recorded_fails() -> None:
    assert baseline.compare([], HERE, FACTS, "hello", 1_000, 3).failed
    assert baseline.compare([Record(HERE, {"json": 1_000})], HERE, FACTS, "hello", 1_000, 3).failed


def test_another_environment_is_not_comparable_and_does_not_fail() -> None:
    assert verdict(5_000).compared
    other = verdict(5_000, HERE | {"rustc": "def"})
    assert not other.failed
    assert not other.compared
    assert other.text == "not comparable: rustc is def, not abc"


def test_facts_that_a_figure_does_not_depend_on_do_not_matter() -> None:
    assert verdict(2_000, HERE | {"python": "CPython 3.14.0"}).failed


def test_what_is_unknown_on_both_sides_is_not_the_same() -> None:
    unknown = HERE | {"rustc": "unknown"}
    assert "not comparable" in verdict(5_000, unknown, unknown).text


def test_records_of_the_same_environment_are_joined_and_stale_ones_replaced() -> None:
    old = Record(HERE, {"hello": 1, "json": 2})
    elsewhere = Record(HERE | {"cpu": "aarch64"}, {"hello": 5})
    assert baseline.merged([old, elsewhere], Record(HERE, {"hello": 3})) == [
        elsewhere,
        Record(HERE, {"hello": 3, "json": 2}),
    ]
    newer = Record(HERE | {"rustc": "def"}, {"hello": 4})
    assert baseline.merged([old, elsewhere], newer) == [elsewhere, newer]


def test_records_are_read_as_they_were_written(tmp_path: pathlib.Path) -> None:
    records = [Record(HERE, {"rgunicorn hello": 17_000}), Record(HERE | {"cpu": 'a "quoted" one'}, {})]
    file = tmp_path / "records.toml"
    file.write_text(baseline.written(records))
    assert baseline.read(file) == records
    assert baseline.read(tmp_path / "missing.toml") == []


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/home/user/src/rgunicorn/src/worker/run.rs", "worker/run.rs"),
        ("src/wsgi/link.rs", "wsgi/link.rs"),
        ("/build/crates/rgunicorn-server/src/worker/run.rs", "rgunicorn-server/worker/run.rs"),
        ("/rustc/0123/library/core/src/option.rs", ""),
        ("/home/user/.cargo/registry/src/index-1/slab-0.4.9/src/lib.rs", ""),
        ("???", ""),
    ],
)
def test_our_source_files_are_told_from_others(file: str, own: str) -> None:
    assert calls.place(Function("/lib/own.so", file, "name")).file == own


def test_a_name_loses_its_hash_and_its_level_of_recursion() -> None:
    assert profile_text.readable("crate::run::h0123456789abcdef'2") == "crate::run"


CALL, LINK = Place("wsgi/calls.rs", "wsgi::calls::Calls::serve"), Place("wsgi/link.rs", "wsgi::link::Link::date")
REACTOR = Place("server/worker/reactor.rs", "worker::reactor::Reactor::core")
CELL = Place("", "core::cell::RefCell<T>::borrow_mut")
CLOSURE = Place("wsgi/calls.rs", "wsgi::calls::Calls::serve::{{closure}}")


def test_counts_are_of_functions_files_and_rows() -> None:
    found = Counter(
        {(CALL, LINK): 2.0, (LINK, REACTOR): 1.0, (REACTOR, CELL): 1.0, (CELL, CALL): 1.0, (CALL, CLOSURE): 9.0}
    )
    counts = calls.counted(found)
    assert counts["own functions entered"] == 3
    assert counts["calls of them"] == 4
    assert counts["source files"] == 3
    assert counts["calls that change the file"] == 3
    assert counts["calls that change the folder"] == 1
    assert counts["wsgi -> Reactor"] == 1
    assert counts["borrows of the reactor's core"] == 1
    assert counts["borrows of any cell in worker/"] == 1
    assert counts["clock reads"] == 0


def test_counts_above_their_limits_are_told() -> None:
    counts = {"direct": {"a": 2.4, "b": 0.0}, "threads": {"a": 2.6, "b": 1.0}}
    assert calls.exceeded(counts, {"a": {"direct": 2, "threads": 3, "gevent": 1}, "b": {"threads": 1}}) == []
    found = calls.exceeded(counts, {"a": {"direct": 2, "threads": 2}, "b": {"direct": 1, "threads": 1}})
    assert [complaint.partition(":")[0] for complaint in found] == ["a, threads", "b, direct"]


def test_every_limit_is_of_a_row_that_is_counted() -> None:
    limits = tomllib.loads(calls.LIMITS.read_text())
    assert limits.keys() <= calls.counted(Counter()).keys()
    assert all(limit.keys() == calls.SCENARIOS.keys() for limit in limits.values())
