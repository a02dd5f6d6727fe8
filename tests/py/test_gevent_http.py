"""Requests that wait for an HTTP service, by `requests` and by urllib3, each with one pool for the process."""

import pytest
import requests
from harness import bodies, wait_for
from rawhttp import request

# Fewer than the pools of the application hold.
SEVERAL = 12


@pytest.fixture
def server(launch_gevent, backend):
    return launch_gevent("coop_backends:app", env={"BACKEND": backend.url})


@pytest.mark.parametrize("library", ["requests", "urllib3"])
def test_calls_are_under_way_at_once(server, backend, library):
    """The service answers none before it has all."""
    found = bodies(server.together([f"/{library}/meet/{SEVERAL}"] * SEVERAL))
    assert found == [f"/meet/{SEVERAL}"] * SEVERAL


@pytest.mark.parametrize("library", ["requests", "urllib3"])
def test_connections_are_pooled(server, backend, library):
    """Rounds of calls need no more connections than calls that were under way at once."""
    for _ in range(3):
        bodies(server.together([f"/{library}/{number}" for number in range(SEVERAL)]))
    assert backend.connections <= SEVERAL


def test_a_slow_service_holds_nobody_up(server, backend):
    with server.client() as client:
        client.send(request("/requests/hold"))
        wait_for("the call", lambda: backend.holding == 1)
        assert bodies(server.together(["/urllib3/quick"] * 3)) == ["/quick"] * 3
        backend.release()
        assert client.response().body == b"/hold"


def test_a_client_that_leaves_while_its_call_is_under_way(server, backend):
    with server.client() as client:
        client.send(request("/requests/hold"))
        wait_for("the call", lambda: backend.holding == 1)
    assert bodies(server.together(["/requests/quick"] * 3)) == ["/quick"] * 3
    backend.release()
    assert bodies(server.together(["/requests/quick"] * 3)) == ["/quick"] * 3
    assert "Traceback" not in server.log


def test_large_bodies_both_ways(server, backend):
    payload = bytes(range(256)) * 8192
    answer = requests.post(f"{server.url}/requests/echo", data=payload, timeout=20)
    assert answer.status_code == 200
    assert answer.content == payload


@pytest.mark.own
def test_a_request_that_waits_before_its_call_gets_its_own_objects(launch_gevent):
    """Between the making of its environ and its call, others keep theirs."""
    server = launch_gevent("slow_headers:app", "--config", "python:slow_headers")
    with server.client() as slow, server.client() as others:
        assert others.get("/client").body == b"False"
        slow.send(request("/slow"))
        wait_for("the look at its headers", lambda: others.get("/looked").body == b"True")
        assert others.get("/keep").body == b"kept"
        assert others.get("/client").body == b"False"
        assert others.get("/release").body == b"released"
        assert slow.response().body == b"False"
