"""Connections that are opened ahead of their requests, as balancers and browsers do: idle until the first byte."""

import signal
import time

import pytest
from rawhttp import TIMEOUT_S, request

# Of a machine that is busy with other things.
LATE_S = 10.0
POST = request("/digest", method="POST", body=b"the order")
HEADER_S, KEEPALIVE_S = 1, 4
SHORT = ("--header-timeout", str(HEADER_S), "--keep-alive", str(KEEPALIVE_S))
# Longer than a head may take by default, longer than a thread of Gunicorn's waits for it, and shorter than `timeout`.
USUAL_S = 11.0


@pytest.fixture
def sync(launch):
    """Starts servers of the worker type that keeps no connection."""

    def start(*args):
        drivers = {"rgunicorn-uring": "uring", "rgunicorn-epoll": "epoll"}
        driver = ("--io-driver", drivers[launch.flavour.name]) if launch.flavour.name in drivers else ()
        return launch(*args, "-k", "sync", *driver, untyped=True)

    return start


def check_post_after(server, seconds):
    with server.client() as client:
        time.sleep(seconds)
        client.send(POST)
        assert client.response().status == 200


def test_a_first_request_may_come_as_late_as_a_next_one(launch):
    check_post_after(launch("bulk:app", "--keep-alive", "75"), USUAL_S)


def test_a_first_request_may_come_late_to_greenlets(launch_gevent):
    check_post_after(launch_gevent("bulk:app", "--keep-alive", "75"), USUAL_S)


def closed_after(client):
    begun = time.monotonic()
    assert client.rest() == b""
    return time.monotonic() - begun


def check_clocks(start):
    """Silence is bounded by `keepalive`, a head by `header_timeout` from its first byte on."""
    server = start("bulk:app", *SHORT)
    check_post_after(server, HEADER_S * 2)
    with server.client() as client:
        assert KEEPALIVE_S * 0.9 <= closed_after(client) < KEEPALIVE_S + LATE_S
    with server.client() as client:
        time.sleep(HEADER_S * 2)
        client.send(b"G")
        assert HEADER_S * 0.9 <= closed_after(client) < HEADER_S + LATE_S


@pytest.mark.own(reason="Gunicorn bounds no head")
def test_silence_and_heads_have_each_their_clock(launch):
    check_clocks(launch)


@pytest.mark.own(reason="Gunicorn bounds no head")
def test_silence_and_heads_have_each_their_clock_in_greenlets(launch_gevent):
    check_clocks(launch_gevent)


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn bounds no head")
def test_silence_and_heads_have_each_their_clock_under_sync(sync):
    check_clocks(sync)


@pytest.mark.own(reason="Gunicorn has other times")
def test_without_keepalive_there_is_time_for_a_head(launch):
    with launch("bulk:app", "--header-timeout", "2", "--keep-alive", "0").client() as client:
        assert 1.8 <= closed_after(client) < 2 + LATE_S


@pytest.mark.own(reason="it is a setting of ours")
def test_the_clock_of_a_head_starts_with_the_proxy_header(launch):
    """A balancer sends it ahead of its client's bytes."""
    server = launch("bulk:app", *SHORT, "--proxy-protocol", "auto")
    for sent in (b"PROXY TC", b"PROXY TCP4 198.51.100.7 203.0.113.9 1000 2000\r\n"):
        with server.client() as client:
            time.sleep(HEADER_S * 2)
            client.send(sent)
            assert HEADER_S * 0.9 <= closed_after(client) < HEADER_S + LATE_S


def check_stop(start):
    """What lies in the kernel at TERM is answered, and silence holds nobody up."""
    server = start("bulk:app", "--keep-alive", "75")
    clients = [server.client() for _ in range(20)]
    time.sleep(1)
    begun = time.monotonic()
    for index, client in enumerate(clients[:10]):
        client.send(POST)
        if index == 0:
            server.kill(signal.SIGTERM)
    for client in clients[:10]:
        assert client.response().status == 200
    for client in clients:
        assert client.rest() == b""
        client.close()
    assert server.wait_exit() == 0
    assert time.monotonic() - begun < TIMEOUT_S


@pytest.mark.own(reason="Gunicorn closes some of them, and waits for others")
def test_a_stop_loses_no_first_request(launch):
    check_stop(launch)


@pytest.mark.own(reason="Gunicorn closes some of them, and waits for others")
def test_a_stop_loses_no_first_request_in_greenlets(launch_gevent):
    check_stop(launch_gevent)


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn closes some of them, and waits for others")
def test_a_stop_loses_no_first_request_under_sync(sync):
    check_stop(sync)
