"""Tests of what bench/field.py makes of its figures: `pytest bench/tests`."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import socket
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import arrivals
import cases
import field_report
import field_run
import servers
import steady
from arrivals import Answer
from cases import Load
from steady import Quartiles, Row

# ---- medians ----


def test_quartiles_are_of_the_values() -> None:
    assert steady.quartiles([3.0]) == Quartiles(3.0, 3.0, 3.0)
    assert steady.quartiles([1.0, 5.0, 2.0, 4.0, 3.0]) == Quartiles(2.0, 3.0, 4.0)
    assert steady.quartiles([1.0, 2.0]) == Quartiles(1.25, 1.5, 1.75)


def test_one_value_says_nothing_about_its_steadiness() -> None:
    assert steady.wobble([10.0]) == math.inf
    assert steady.wobble([0.0, 0.0]) == math.inf
    assert steady.wobble([10.0, 10.0]) == 0


def test_a_wild_round_does_not_make_a_median_restless_and_a_wide_middle_does() -> None:
    calm = [10.0, 10.1, 10.0, 9.9, 10.0, 10.1, 50.0]
    assert steady.wobble(calm) < steady.WOBBLE_MAX
    wide = [8.0, 12.0, 9.0, 11.0, 10.0, 8.0, 12.0]
    assert steady.wobble(wide) > steady.WOBBLE_MAX
    assert steady.wobble(wide * 40) < steady.WOBBLE_MAX < steady.wobble(wide)


@pytest.mark.parametrize(
    ("rounds", "restless", "enough"), [(6, False, False), (7, False, True), (7, True, False), (21, True, True)]
)
def test_rounds_are_enough_when_all_are_steady_or_the_number_is_used_up(
    rounds: int, restless: bool, enough: bool
) -> None:
    values = [[10.0] * rounds, [5.0, 10.0] * 10 if restless else [3.0] * rounds]
    assert steady.is_enough(values, rounds, steady.ROUNDS_MIN, steady.ROUNDS_MAX) is enough


def test_a_run_that_others_have_disturbed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.choose("hello:64", False)[0]
    running = field_run.Running(servers.TABLE[0], 0, field_run.Window(os.getpid(), [0]))
    for shares, expected in [([0.0, 0.5], 1), ([0.5, 0.05], 2), ([0.5, 0.5, 0.5], 3)]:
        runs = iter({"others_share": share} for share in shares)
        monkeypatch.setattr(field_run, "measure", lambda *_, runs=runs: next(runs))
        args = argparse.Namespace(seconds=1, tries=field_run.TRIES_MAX)
        run = field_run.undisturbed(args, case, running)
        assert run == {"others_share": shares[expected - 1], "tries": expected}


# ---- the best peer ----


def row(server: str, cpu: float, *, errors: int = 0, remark: str = "") -> Row:
    figures = {0: cpu}, {0: 1e6 / cpu}
    return Row(server, field_run.is_peer(server), *figures, requests=10_000, errors=errors, remark=remark)


def test_the_best_peer_is_no_own_server_no_floor_and_does_what_was_asked() -> None:
    rows = [
        row("floor uring", 1),
        row("rgunicorn uring", 2),
        row("joiner", 3, remark="joins items"),
        row("loser", 4, errors=11),
        row("good", 5, errors=10),
        row("dear", 10),
    ]
    best = steady.best_peer(rows)
    assert best is not None
    assert best.server == "good"
    ratios = steady.ratios(rows)
    assert ratios["rgunicorn uring"] == pytest.approx((0.4, 2.5))
    assert ratios["dear"] == pytest.approx((2, 0.5))
    assert ratios["joiner"] == pytest.approx((0.6, 5 / 3))


def test_what_slows_a_whole_round_down_changes_no_ratio() -> None:
    slow = [1.0, 1.5, 0.8]
    figures = [(number, name, cpu * by) for number, by in enumerate(slow) for name, cpu in (("a", 8), ("b", 10))]
    rounds = steady.by_round(figures)
    assert steady.beside_others(rounds)["a"] == pytest.approx([8 / 9] * 3)
    a, b = ({number: rounds[number][name] for number in rounds} for name in "ab")
    assert steady.ratio(a, b) == pytest.approx(0.8)
    del a[0], b[1]
    assert steady.ratio(a, b) == pytest.approx(0.8)
    del a[2]
    assert steady.ratio(a, b) == pytest.approx(12 / 9), "no round in common"
    alone = steady.by_round([(0, "a", 8.0), (1, "a", 12.0)])
    assert steady.beside_others(alone) == {"a": [8.0, 12.0]}


def test_slices_are_one_run() -> None:
    def a_slice(requests: int, cpu_us: float, others: float) -> dict[str, Any]:
        figures = {"requests": requests, "errors": 1, "cpu_ns": cpu_us * 1e3 * requests, "seconds": 0.5}
        return {**figures, "requests_per_s": requests / 0.5, "others_share": others, "tries": 1 + round(others)}

    run = field_run.together([a_slice(1_000, 10, 0.0), a_slice(3_000, 20, 0.6)])
    assert (run["requests"], run["errors"], run["seconds"], run["tries"]) == (4_000, 2, 1.0, 2)
    assert run["cpu_us_per_request"] == pytest.approx(17.5)
    assert run["requests_per_s"] == pytest.approx(4_000)
    assert run["others_share"] == pytest.approx(0.3)


def test_without_a_peer_there_are_no_ratios() -> None:
    assert steady.ratios([row("floor uring", 1), row("rgunicorn epoll", 2)]) == {}


# ---- what arrives ----


def read(answer: bytes) -> Answer:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        return arrivals.answer(arrivals.Reader(ours))


def test_answers_are_read_in_any_framing() -> None:
    sized = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (sized.status, sized.body, sized.chunks, sized.moments) == (200, b"hi", None, 1)
    chunked = read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n")
    assert (chunked.body, chunked.chunks) == (b"hi yo", 2)
    closed = read(b"HTTP/1.0 404 No\r\n\r\nnothing")
    assert (closed.status, closed.body) == (404, b"nothing")
    with pytest.raises(ConnectionResetError):
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")


def test_pieces_that_come_close_together_are_one_moment() -> None:
    assert Answer(200, b"", None, [1.0, 1.001, 1.02, 1.021, 1.04]).moments == 3
    assert Answer(200, b"", None).moments == 0


@pytest.mark.parametrize(
    ("chunks", "moments", "is_joined"), [(20, 20, False), (6, 20, False), (1, 20, True), (20, 1, True), (None, 1, True)]
)
def test_a_stream_whose_items_wait_for_each_other_is_none(chunks: int | None, moments: int, is_joined: bool) -> None:
    slow = Answer(200, b"", chunks, [0.02 * number for number in range(moments)])
    assert bool(arrivals.joined(Answer(200, b"", chunks), slow)) is is_joined


# ---- cases and loads ----


def test_long_loads_and_crowds_are_not_sliced() -> None:
    assert Load(1_000).slices == Load(pipeline=16).slices == cases.SLICES
    assert {each.slices for each in [Load(10_000), Load(rate=1), Load(idle=1_000)]} == {1}


def test_a_load_becomes_a_command() -> None:
    command = field_run.generator_command(8_000, Load(2, "/a", ("A: b",), 3, pipeline=4, idle=5), 0.5)
    assert command[1:] == [
        *["http://127.0.0.1:8000/a", "-c", "2", "-d", "0.5", "--announce", "--quiet", "--idle", "5"],
        *["--body-bytes", "3", "--pipeline", "4", "--header", "A: b"],
    ]
    assert arrivals.request(Load(path="/a", headers=("A: b",), body_bytes=3)) == (
        b"POST /a HTTP/1.1\r\nHost: localhost\r\nA: b\r\nContent-Length: 3\r\n\r\nxxx"
    )
    assert len(cases.BROWSER_HEADERS) == 9


def test_all_parts_have_cases_and_none_has_two_of_one_place() -> None:
    for quick in (False, True):
        places = [(case.part, case.point) for case in cases.choose(None, quick)]
        assert {part for part, _ in places} == set(cases.PARTS)
        assert len(places) == len(set(places))


def test_parts_and_points_are_chosen_by_name() -> None:
    chosen = cases.choose("latency,hello:10000,hello:7", True)
    assert [(case.part, case.point) for case in chosen] == [("latency", 1_000), ("hello", 10_000), ("hello", 7)]
    for names, complaint in [("helo", "unknown part 'helo'"), ("hello:x", "'x' is no number")]:
        with pytest.raises(ValueError, match=complaint):
            cases.choose(names, False)


def test_servers_without_workers_are_not_asked_for_two() -> None:
    names = {server.name for server in servers.table(workers=2)}
    assert {"rgunicorn uring", "granian"} <= names
    assert not {"bjoern", "waitress"} & names


# ---- the report ----


def described(part: str, point: int, title: str) -> dict[str, Any]:
    commands = {"rgunicorn uring": "taskset -c 0 rgunicorn app", "bjoern": "taskset -c 0 python -c bjoern"}
    case = {"part": part, "point": point, "title": title, "app": "bench_hello:app", "workers": 1}
    return {**case, "slices": 6 if part == "hello" else 1, "servers": commands, "load": "taskset -c 1 wrk"}


def run(part: str, point: int, server: str, number: int, cpu: float, **more: Any) -> dict[str, Any]:
    place = {"part": part, "point": point, "server": server, "round": number, "cpu_us_per_request": cpu}
    figures = {"requests": 1_000, "requests_per_s": 1e6 / cpu, "errors": 0, "others_share": 0.01}
    return {**place, **figures, **more}


def saved() -> dict[str, Any]:
    times = {"p50": 100, "p75": 150, "p90": 200, "p95": 250, "p99": 1_000, "p999": 2_000, "p9999": 3_000, "max": 4_000}
    due = {"latency_us": times, "lateness_us": {"p99": 20}, "unanswered": 3}
    cpus = {"rgunicorn uring": 8.0, "bjoern": 10.0, "joiner": 2.0}
    runs = [run("hello", 64, name, number, cpu) for number in range(7) for name, cpu in cpus.items()]
    runs += [run("latency", 1_000, "bjoern", number, 40.0 + number * 20, **due) for number in range(2)]
    return {
        "facts": {"cpu": "some", "smoke": "yes"},
        "cases": [described("hello", 64, "hello, 64 connections"), described("latency", 1_000, "1,000 are due")],
        "runs": runs,
        "remarks": [{"part": "hello", "point": 64, "server": "joiner", "remark": "joins items"}],
        "failures": [{"part": "hello", "point": 64, "server": "granian", "round": 0, "reason": "it left"}],
    }


def test_a_report_has_tables_remarks_failures_and_commands() -> None:
    text = field_report.markdown(saved(), {"hello": ["hello.svg"]})
    for line in [
        "**A smoke of the bench: its figures mean nothing.**",
        "| hello, 64 connections | bjoern | 10.0 | 0.80 | ? |  |",
        "![hello](hello.svg)",
        "| joiner | 2.0 [2.0–2.0] | 0.20 | 500,000 [500,000–500,000] | 5.00 | 0 | joins items |",
        "| rgunicorn uring | 8.0 [8.0–8.0] | 0.80 | 125,000 [125,000–125,000] | 1.25 | 0 |  |",
        "| bjoern | 10.0 [10.0–10.0] | 1.00 | 100,000 [100,000–100,000] | 1.00 | 0 | the best peer |",
        "7 rounds, all steady. Others took 1% of its CPU in the median, 1% at most.",
        "`bench_hello:app`; in 6 slices.",
        "`bench_hello:app`.",
        "- hello 64, granian, round 1: it left",
    ]:
        assert line in text.splitlines(), f"{line}\n{text}"
    assert text.count("taskset -c 0 python -c bjoern") == 1


def test_latencies_are_medians_of_percentiles_in_milliseconds() -> None:
    text = field_report.markdown(saved(), {})
    cells = ["0.10 [0.10–0.10]", "0.20 [0.20–0.20]", "1.00 [1.00–1.00]", "2.00 [2.00–2.00]", "4.00 [4.00–4.00]"]
    assert f"| bjoern | {' | '.join(cells)} | 6 | 0.02 |" in text
    assert "2 rounds, not steady: bjoern (±22%)." in text


def test_plots_are_drawn_where_matplotlib_is(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    import field_plots  # noqa: PLC0415  # It needs what may be missing.

    figures = saved()
    assert field_plots.draw(figures, tmp_path) == {"hello": ["hello.svg"], "latency": ["latency-1000.svg"]}
    one_point = (tmp_path / "hello.svg").read_text()
    assert one_point.count("<svg") == 1
    figures["cases"].append(described("hello", 1, "hello, 1 connection"))
    figures["runs"].append(run("hello", 1, "bjoern", 0, 20.0))
    field_plots.draw(figures, tmp_path)
    assert (tmp_path / "hello.svg").read_text() != one_point
