"""Every request of the corpus, whole and in two pieces: the outcome is the same wherever it is cut.

Here each is cut once, at a place that the seed chooses. `RGUNICORN_CUTS=all` cuts it at every byte (`ci/check.sh
--long`): some 50,000 connections for each server.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from corpus import PROXY, Case, cases, get
from rawhttp import Client

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
CUTS = os.environ.get("RGUNICORN_CUTS", "one")
BATCH = 100
PATIENCE_S = 3.0
"""For an answer; nothing that the corpus expects takes any time."""
LONG_BYTES_MIN = 1_000
"""A request that is longer is cut at some places only: its bytes are all alike."""
ALL = cases()
VAGUE = {"4xx or 501": {400, 501}}

pytestmark = pytest.mark.own(reason="where Gunicorn differs, docs/gunicorn-differences.md says so")


def cuts(case: Case) -> list[int]:
    """Where a case is cut; 0 leaves it whole."""
    rng = random.Random(f"{SEED}:{case.name}")
    if CUTS != "all":
        return [0, rng.randrange(1, len(case.data))]
    places = range(len(case.data))
    return list(places) if len(places) < LONG_BYTES_MIN else sorted({0, *rng.sample(places, 50), len(places) - 1})


def batches(found: list[Case]) -> Iterator[list[tuple[Case, int]]]:
    """Cases with their cuts, so many at a time."""
    todo = [(case, cut) for case in found for cut in cuts(case)]
    for at in range(0, len(todo), BATCH):
        yield todo[at : at + BATCH]


def run(server, batch: list[tuple[Case, int]]) -> Iterator[tuple[Case, int, list[object]]]:
    """Play a batch side by side: all first pieces, then all second ones, then all answers."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client(PATIENCE_S)) for _ in batch]
        for client, (case, cut) in zip(clients, batch, strict=True):
            if cut:
                send(client, case.data[:cut])
        # Answered by the loop that has the first pieces by then.
        assert server.get("/between").status == 200
        for client, (case, cut) in zip(clients, batch, strict=True):
            send(client, case.data[cut:] + (get("/end") if case.stays else b""))
        for client, (case, cut) in zip(clients, batch, strict=True):
            yield case, cut, outcome(client, case)


def send(client: Client, data: bytes) -> None:
    """Send to a server that may have had enough."""
    with contextlib.suppress(ConnectionError):
        client.send(data)


def outcome(client: Client, case: Case) -> list[object]:
    """What came back: the answers, and whether the connection stays."""
    found: list[object] = []
    count = len(case.answers) + case.stays
    for number in range(count):
        expected = case.answers[number] if number < len(case.answers) else ""
        try:
            response = client.response("HEAD" if expected == "HEAD" else "GET")
            while response.status == 100:
                response = client.response()
        except (AssertionError, ConnectionError):
            return [*found, "closed before an answer"]
        except TimeoutError:
            return [*found, "no answer"]
        text = "HEAD" if expected == "HEAD" else response.body.decode("latin-1")
        found.append(text if response.status == 200 else response.status)
    if not case.stays:
        try:
            rest = client.rest()
        except ConnectionError:
            rest = b""
        except TimeoutError:
            return [*found, "stays"]
        found.append(rest or "closed")
    return found


def expected_of(case: Case) -> list[object]:
    return [*case.answers, "GET /end 0:" if case.stays else "closed"]


def judge(server, found: list[Case]) -> list[str]:
    """Play cases; give the disagreements."""
    wrong = []
    for batch in batches(found):
        try:
            for case, cut, got in run(server, batch):
                expected = expected_of(case)
                vague = VAGUE.get(case.answers[0]) if isinstance(case.answers[0], str) else None
                if got != expected and not (vague and got[0] in vague and got[1:] == expected[1:]):
                    wrong.append(f"{case.name}, cut at {cut}: {got}, not {expected}")
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}: {error}; wrong so far: {wrong}") from None
    return wrong


@pytest.mark.parametrize("proxied", [False, True], ids=["plain", "proxied"])
def test_each_request_has_its_outcome_wherever_it_is_cut(launch, proxied):
    found = [case for case in ALL if (case.options == PROXY) == proxied]
    server = launch("corpus_app:app", "-w", "1", "--keep-alive", "30", *(PROXY if proxied else ()))
    wrong = judge(server, found)
    assert not wrong, f"RGUNICORN_SEED={SEED}\n" + "\n".join(wrong)


@pytest.mark.parametrize("proxied", [False, True], ids=["plain", "proxied"])
def test_each_request_has_its_outcome_in_greenlets(launch_gevent, proxied):
    found = [case for case in ALL if (case.options == PROXY) == proxied]
    server = launch_gevent("corpus_app:app", "-w", "1", "--keep-alive", "30", *(PROXY if proxied else ()))
    wrong = judge(server, found)
    assert not wrong, f"RGUNICORN_SEED={SEED}\n" + "\n".join(wrong)


@pytest.mark.one_thread
def test_each_request_has_its_outcome_under_sync(launch, flavour):
    """Every answer is the last of its connection."""
    driver = flavour.options[flavour.options.index("--io-driver") :][:2]
    found = [replace(case, answers=case.answers[:1], stays=False) for case in ALL if case.options != PROXY]
    server = launch("corpus_app:app", "-k", "sync", *driver, "-w", "1", untyped=True)
    wrong = judge(server, found)
    assert not wrong, f"RGUNICORN_SEED={SEED}\n" + "\n".join(wrong)
