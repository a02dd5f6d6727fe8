"""Monitoring agents find in the server's processes what they find in Gunicorn's: one in small counts every request.

It comes in as they do, ahead of the server, and wraps the application at a name of `gunicorn`
(`tests/apps/agent_boot`). What the agents themselves report is in test_agents.py.
"""

import json
import signal
from collections import Counter

import pytest
from harness import APPS, wait_for
from rawhttp import request

DOORS = [
    "gunicorn.app.base:Application.wsgi",
    "gunicorn.app.base:BaseApplication.wsgi",
    "gunicorn.app.wsgiapp:WSGIApplication.load",
]
UNLOADED = "threading queue _queue concurrent"
BODY = b"0123456789" * 100
SIZE = (APPS / "agent_watched.py").stat().st_size
#: How many requests of each path, and what an agent sees of one: the status, the error, the bytes read and sent.
MIX = {
    "/hello": (8, 200, None, 0, 5),
    "/boom": (3, None, "ValueError", 0, 0),
    "/cut": (2, 200, "KeyError", 0, 5),
    "/missing": (2, 404, None, 0, 0),
    "/lines": (2, 200, None, 0, 14),
    "/write": (1, 200, None, 0, 12),
    "/echo": (2, 200, None, len(BODY), len(BODY)),
    "/file": (2, 200, None, 0, SIZE),
}


def environment(**variables):
    return {"PYTHONPATH": f"{APPS / 'agent_boot'}:{APPS}", **variables}


def begin(launch, *args, **variables):
    return launch("agent_watched:app", "-w", "2", *args, env=environment(**variables))


def send(server):
    """The mix, each request on a connection of its own."""
    for path, (count, *_) in MIX.items():
        for _ in range(count):
            with server.client() as client:
                body = {"method": "POST", "body": BODY} if path == "/echo" else {}
                client.send(request(path, headers={"Connection": "close"}, **body))
                client.rest()


def records(server):
    """What the agent has written in all processes."""
    files = server.workdir.glob("agent-*.txt")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def ended(server):
    return sum(file.stat().st_size for file in server.workdir.glob("ended-*.txt"))


def counted(server):
    keys = ("path", "status", "error", "read", "sent")
    return Counter(tuple(record[key] for key in keys) for record in records(server))


def expected(times=1):
    return Counter({(path, *seen): count * times for path, (count, *seen) in MIX.items()})


def assert_counted(server):
    send(server)
    assert server.terminate() == 0
    assert counted(server) == expected()


@pytest.mark.parametrize("door", DOORS)
def test_each_request_is_counted(launch, door):
    assert_counted(begin(launch, AGENT_DOOR=door))


@pytest.mark.parametrize("door", DOORS)
def test_each_request_is_counted_in_greenlets(launch_gevent, door):
    assert_counted(begin(launch_gevent, AGENT_DOOR=door))


def test_an_application_that_is_loaded_before_the_fork_is_counted(launch):
    assert_counted(begin(launch, "--preload"))


def test_an_agent_may_have_its_modules_forgotten(launch):
    assert_counted(begin(launch, AGENT_UNLOADS=UNLOADED))


@pytest.mark.own(reason="the reference was seen to hang at its end")
def test_an_agent_may_have_its_modules_forgotten_before_gevent(launch_gevent):
    assert_counted(begin(launch_gevent, AGENT_UNLOADS=UNLOADED))


def test_a_quick_stop_keeps_what_was_counted(launch):
    server = begin(launch)
    send(server)
    # A request whose `close()` has not returned is cut.
    wait_for("the last transaction to end", lambda: ended(server) == sum(expected().values()))
    assert server.terminate(signal.SIGQUIT) == 0
    assert counted(server) == expected()


def test_a_reload_keeps_what_was_counted(launch):
    server = begin(launch)
    send(server)
    old = server.workers()
    server.kill(signal.SIGHUP)
    server.wait_workers(2, without=old)
    send(server)
    assert server.terminate() == 0
    assert counted(server) == expected(2)


def test_workers_that_are_replaced_keep_what_was_counted(launch):
    server = begin(launch, "--max-requests", "5")
    send(server)
    assert server.terminate() == 0
    assert counted(server) == expected()


def test_the_worker_type_can_be_told_by_its_module(launch_gevent):
    server = begin(launch_gevent)
    server.get("/hello")
    assert server.terminate() == 0
    assert [record["dispatcher"] for record in records(server)] == ["gunicorn (gevent)"]


def test_an_agent_may_have_imported_gunicorn(launch):
    assert_counted(begin(launch, AGENT_IMPORTS="gunicorn.glogging"))
