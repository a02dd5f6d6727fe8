"""Our gevent loop against a model, by random calls: a watcher gets all of its own events and no others.

The model holds for libev, too. A failure prints the seed; RGUNICORN_SEED begins with it. RGUNICORN_LOOP_S=n plays for
as many seconds.
"""

import os
import random
import subprocess
import sys

import pytest
from harness import APPS, environment

pytestmark = [pytest.mark.own, pytest.mark.one_driver]

SEED = os.environ.get("RGUNICORN_SEED") or str(random.SystemRandom().getrandbits(32))
SECONDS = float(os.environ.get("RGUNICORN_LOOP_S", "4"))
OURS, LIBEV = "rgunicorn.gevent.Loop", "gevent.libev.corecext.loop"


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(("loop", "driver"), [(OURS, "uring"), (OURS, "epoll"), (LIBEV, "epoll")])
def test_events_are_those_of_the_model(loop, driver):
    command = [sys.executable, str(APPS / "loop_random.py"), loop, str(SECONDS), SEED]
    done = subprocess.run(
        command, env=environment({"RGUNICORN_IO_DRIVER": driver}), capture_output=True, text=True, check=False,
        timeout=SECONDS + 50,
    )  # fmt: skip
    told = f"RGUNICORN_SEED={SEED}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    assert f"{loop}: seeds {SEED} to" in done.stdout, told
    assert "panicked" not in done.stderr, told
