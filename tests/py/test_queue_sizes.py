"""How many entries the ring of a worker has: few with RGUNICORN_TORTURE=1, which needs a build with that feature."""

import contextlib
import os
import re
from pathlib import Path

import pytest
from harness import wait_for

pytestmark = pytest.mark.own

ENTRIES = 4 if os.environ.get("RGUNICORN_TORTURE") == "1" else 256


def rings(pid):
    """The entries of each submission queue. While the ring is busy, the kernel says nothing about it."""
    text = ""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # A connection has been closed meanwhile.
            text += path.read_text()
    return [int(mask, 16) + 1 for mask in re.findall(r"^SqMask:\s*(0x[0-9a-f]+)$", text, re.MULTILINE)]


def test_a_worker_has_the_queues_that_were_asked_for(launch, flavour):
    pid = launch("http_app:app").worker_pid()
    if "epoll" in flavour.options:
        assert rings(pid) == []
    else:
        assert wait_for("the ring to be told", lambda: rings(pid)) == [ENTRIES]
