"""Requests that wait for Redis, and for each other through it."""

import pytest
from harness import bodies, wait_for
from rawhttp import request

# Fewer than the pools of the application hold.
SEVERAL = 12


@pytest.fixture(scope="module")
def server(launch_gevent_module, redis_server):
    return launch_gevent_module("coop_backends:app", env={"REDIS": redis_server.socket})


def test_one_request_waits_for_anothers_item(server, redis_server):
    with server.client() as client:
        client.send(request("/blpop/one"))
        wait_for("the wait", lambda: redis_server.client.info("clients")["blocked_clients"] == 1)
        assert server.get("/rpush/one/item").status == 200
        assert client.response().body == b"item"


def test_many_wait_at_once(server, redis_server):
    clients = [server.client() for _ in range(SEVERAL)]
    for client in clients:
        client.send(request("/blpop/many"))
    wait_for("all waits", lambda: redis_server.client.info("clients")["blocked_clients"] == SEVERAL)
    bodies(server.together([f"/rpush/many/{number}" for number in range(SEVERAL)]))
    found = bodies([client.response() for client in clients])
    assert sorted(map(int, found)) == list(range(SEVERAL))
    for client in clients:
        client.close()


def test_messages_are_streamed(server):
    with server.client() as client:
        client.send(request("/subscribe/news"))
        assert client.head().chunked
        assert client.chunk() == b"subscribed\n"
        for number in range(3):
            assert server.get(f"/publish/news/{number}").body == b"1"
            assert client.chunk() == b"%d\n" % number
        server.get("/publish/news/end")
        assert client.chunk() == b""
