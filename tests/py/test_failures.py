"""System calls that fail for good, one at a time (`failures.py`): nothing spins, fills the log or answers wrongly.

A cut of the cells; `FAILURES=all` takes all of them.
"""

import os

import failures
import pytest
import syscalls
from conftest import chosen
from harness import COOPERATIVE

pytestmark = [
    pytest.mark.own(reason="Gunicorn spins, or fills its log, in many of them"),
    pytest.mark.skipif(syscalls.available() is not None, reason=str(syscalls.available())),
]


def pytest_generate_tests(metafunc):
    cells = failures.all_cells if os.environ.get("FAILURES") == "all" else failures.some_cells
    servers = [server for server in chosen(metafunc.config) if server.own]
    servers += [COOPERATIVE[server.name] for server in servers if server.name in COOPERATIVE]
    pairs = []
    for server in servers:
        # Those on io_uring need not be among the later runs of the suite.
        marks = [] if "epoll" in server.options or server.threads else [pytest.mark.one_driver]
        pairs += [pytest.param(server, cell, id=f"{server.name}-{cell}", marks=marks) for cell in cells(server)]
    metafunc.parametrize(("cell_flavour", "cell"), pairs)


def test_a_call_that_fails_for_good(cell_flavour, cell, workdir):
    run = failures.run(cell, cell_flavour, workdir)
    # Some of all cells prove the start only: the call is made before, or not at all.
    assert run.failed or os.environ.get("FAILURES") == "all", (cell, run.notes)
    assert not run.complaints, (run.complaints, run.notes, run.server.log[-4000:])
