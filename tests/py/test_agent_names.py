"""Agents of others, which wrap names of Gunicorn before the server starts: a small one of that kind sees each request.

The real ones, in the long run: `test_agents.py`.
"""

import os

import pytest
from harness import APPS, wait_for

PLAIN = """
import os

class Items(list):
    def close(self):
        pass

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fault":
        raise LookupError
    start_response("200 OK", [("Content-Length", "2")])
    return Items([b"ok"])
"""
ITEMS = 10


@pytest.mark.parametrize("args", [(), ("--preload",)], ids=["", "preload"])
def test_each_request_is_a_transaction(launch, workdir, args):
    (workdir / "plain.py").write_text(PLAIN)
    env = {"PYTHONPATH": os.pathsep.join([str(APPS / "agent_site"), str(APPS)])}
    server = launch("plain:app", "-w", "2", *args, workdir=workdir, env=env)
    for number in range(ITEMS):
        assert server.get(f"/items/{number}").status == 200
    assert server.get("/fault").status == 500
    expected = sorted([*(f"/items/{number} 200 closed" for number in range(ITEMS)), "/fault LookupError"])
    log = workdir / "transactions"
    wait_for("the last one", lambda: log.read_text().count("\n") >= len(expected))
    assert sorted(log.read_text().splitlines()) == expected
