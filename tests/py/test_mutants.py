"""Bent requests: a worker that has seen many of them answers good ones. More of them in `ci/check.sh --long`."""

import os
import random

import pytest
from mutants import play

pytestmark = pytest.mark.own(reason="it is our parser that is tried")

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
REQUESTS = 5_000


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app", "-w", "1")


def test_bent_requests_harm_no_one(server):
    seen = play(server, REQUESTS, SEED)
    assert {200, 400} <= set(seen), seen


@pytest.fixture(scope="module")
def gevent_server(launch_gevent_module):
    return launch_gevent_module("http_app:app", "-w", "1")


def test_bent_requests_harm_no_one_in_greenlets(gevent_server):
    assert {200, 400} <= set(play(gevent_server, REQUESTS, SEED))
