"""Reloads, resizes and kills at random moments, under load: only a killed worker's own connections end.

More of it in `ci/check.sh --long`.
"""

import asyncio
import os
import random

import pytest
from drill import APP, drill, options

pytestmark = [pytest.mark.own(reason="connections of Gunicorn's end with their worker"), pytest.mark.timeout(120)]

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
SCHEDULES = 4
STEADY_S = 6.0


def played(launch, seed, steady_s=0.0):
    server = launch(APP, *options(random.Random(seed), steady_s), deaths=True)
    print(asyncio.run(drill(server, seed, steady_s)))


@pytest.mark.parametrize("number", range(SCHEDULES))
def test_schedules(launch, number):
    played(launch, SEED + number)


def test_schedules_of_greenlets(launch_gevent):
    played(launch_gevent, SEED)


def test_all_of_it_evenly(launch):
    played(launch, SEED, STEADY_S)
