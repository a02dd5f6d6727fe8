"""Children, signals and descriptors on our gevent loop: what libev hands out one by one, so do we.

Pairs: two things have happened by the time the loop looks, and the callback for the first one starts, stops or asks
for the other. Then real programs, each many times.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from harness import APPS, environment

pytestmark = [pytest.mark.own, pytest.mark.one_driver]

OURS = "rgunicorn.gevent.Loop"
LIBEV = "libev-cext"
PAIRS = ["children", "signals", "asyncs", "timers", "descriptors", "files", "turns"]
PROGRAMS = {
    "processes": [0, 1, 2, 3],
    "reversed_processes": [0, 1, 2, 3],
    "many_processes": list(range(12)),
    "pipes": [0, 1, 4, 9],
    "queues": [0, 1, 4, 9],
    "greenlets_join": list(range(8)),
    "popens": list(range(6)),
    "outputs": list(range(12)),
    "pool_of_processes": list(range(8)),
    "thread_futures": [0, 1, 2, 3],
    "terminated": [-15] * 4,
    "process_futures": [number * number for number in range(10)],
}
TIMES = int(os.environ.get("RGUNICORN_TIMES", "15"))
PATIENCE_S = 3 * max(TIMES, 15)


def run(loop, driver, *command):
    """What a program prints."""
    settings = {"GEVENT_LOOP": loop, "RGUNICORN_IO_DRIVER": driver}
    command = [sys.executable, *map(str, command)]
    with subprocess.Popen(
        command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_S)
        finally:
            # Children of a run that hangs would keep the pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{process.returncode}\n{stdout}\n{stderr}"
    assert "panicked" not in stderr, stderr
    return stdout


@pytest.mark.parametrize("group", PAIRS)
@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_pairs_as_libev(driver, group):
    found, expected = (json.loads(run(loop, driver, APPS / "loop_pairs.py", group)) for loop in (OURS, LIBEV))
    assert found == expected


@pytest.mark.timeout(PATIENCE_S + 10)
@pytest.mark.parametrize("program", list(PROGRAMS))
@pytest.mark.parametrize(("loop", "driver"), [(OURS, "uring"), (OURS, "epoll"), (LIBEV, "")])
def test_programs(loop, driver, program):
    printed = run(loop, driver, APPS / "loop_programs.py", program, TIMES)
    assert printed.splitlines() == [str(PROGRAMS[program])] * TIMES
