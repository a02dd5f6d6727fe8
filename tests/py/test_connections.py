"""Ten thousand keep-alive connections to one worker: no error, no growth, and nobody is lost at the end.

`RGUNICORN_TEST_CROWD_S` is how long the steady load lasts (seconds, default 10), `RGUNICORN_TEST_CROWD` how many
connections there are. The crowd is a process of its own (`crowd.py`), for the limit of descriptors is per process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import rss_kb

CONNECTIONS = int(os.environ.get("RGUNICORN_TEST_CROWD", "10000"))
DURATION_S = float(os.environ.get("RGUNICORN_TEST_CROWD_S", "10"))
PERIOD_S = 4.0
# What the worker may gain between the first answers and the end, in kB: buffers of the busiest moment, no leak.
GROWTH_KB_MAX = 8192
# From the last answer to the end of the server. Half a second of it is given to clients that have just been answered
# (DRAIN_FRESH in worker/lifecycle.rs); 0.1 to 1.2 s were seen. It must wait for none of the time-outs, 10 s and more.
END_S_MAX = 8.0

pytestmark = pytest.mark.own(reason="Gunicorn's gthread parks a limited number of idle connections and polls them")


@contextlib.contextmanager
def crowd(address, count):
    """A crowd that has been answered once; gives a function that reads its next line."""
    place = address if isinstance(address, str) else "{}:{}".format(*address)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py")), place, str(count), str(PERIOD_S)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(DURATION_S + 90)
@pytest.mark.parametrize(
    ("bind", "count", "duration_s"),
    [("127.0.0.1:0", CONNECTIONS, DURATION_S), ("unix:server.sock", CONNECTIONS // 5, DURATION_S / 5)],
    ids=["tcp", "unix"],
)
def test_crowd(launch, bind, count, duration_s):
    server = launch("http_app:app", "--keep-alive", "60", "--worker-connections", str(count + 100), bind=bind)
    with crowd(server.address, count) as clients:
        (pid,) = server.workers()
        before = rss_kb(pid)
        time.sleep(duration_s)
        growth = rss_kb(pid) - before
        print("last", file=clients.stdin, flush=True)
        assert clients.stdout.readline() == "sent\n"
        server.kill(signal.SIGTERM)
        assert server.wait_exit() == 0
        ended = time.monotonic()
        found = json.loads(clients.stdout.readline())
    assert found["errors"] == [], found
    assert found["last"] == count
    assert found["answers"] >= count * (1 + duration_s / PERIOD_S) * 0.8
    assert growth < GROWTH_KB_MAX
    assert ended - found["last_at"] < END_S_MAX
