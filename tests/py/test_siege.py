"""Hostile clients of all kinds at once: honest ones are answered, and when they have gone, nothing of them is left.

More of them in `ci/check.sh --long`.
"""

import os
import random

import pytest
from siege import APP, OPTIONS, besiege

pytestmark = [pytest.mark.own(reason="it is our worker that is tried"), pytest.mark.timeout(150)]

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
OPERATIONS = 2_000


def test_nothing_of_a_siege_is_left(launch):
    besiege(launch(APP, *OPTIONS), OPERATIONS, SEED)


def test_nothing_of_a_siege_is_left_in_greenlets(launch_gevent):
    besiege(launch_gevent(APP, *OPTIONS), OPERATIONS, SEED)
