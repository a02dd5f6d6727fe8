"""Clients that leave before they are answered: nobody works for them."""

import contextlib
import signal

import pytest
from harness import wait_for
from rawhttp import request

pytestmark = pytest.mark.own


def enough(flavour):
    """Requests that keep all of a worker busy."""
    return 4 if flavour.threads else 1


def occupy(server, stack):
    """Clients whose requests keep all of a worker busy until there is a file called `gate`."""
    busy = [stack.enter_context(server.client()) for _ in range(enough(server.flavour))]
    for client in busy:
        client.send(request("/gate"))
    wait_for("the worker to be busy", lambda: len(list(server.workdir.glob("in-*"))) == len(busy))
    return busy


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:server.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("way", ["close", "reset"])
def test_who_left_before_their_turn_are_skipped(launch, flavour, bind, way):
    """Their requests are not run; the access log says 499."""
    args = ["--access-logfile", "access.log", "--abandon-timeout", "1"]
    server = launch("threaded:app", *args, bind=bind)
    with contextlib.ExitStack() as stack:
        busy = occupy(server, stack)
        leaving, patient = server.client(), stack.enter_context(server.client())
        leaving.send(request("/mark?name=served"))
        patient.send(request("/mark?name=patient"))
        # Long enough that it is no client that only shuts its side and waits.
        with contextlib.suppress(TimeoutError):
            patient.sock.settimeout(1.2)
            patient.sock.recv(1)
        getattr(leaving, way)()
        patient.sock.settimeout(20)
        (server.workdir / "gate").touch()
        for client in busy:
            assert client.response().status == 200
        assert patient.response().status == 200
        assert server.get("/pid").status == 200
    assert server.terminate(signal.SIGTERM) == 0
    assert not (server.workdir / "served").exists()
    lines = (server.workdir / "access.log").read_text().splitlines()
    skipped = [line for line in lines if "name=served" in line]
    # A connection that was reset before it was seen has left no request.
    assert len(skipped) == 1 or way == "reset"
    assert all('" 499 0 ' in line for line in skipped)


def test_who_only_shuts_its_side_is_answered(launch):
    """As `printf | nc -N` does; the worker is free."""
    server = launch("threaded:app")
    for _ in range(5):
        with server.client() as client:
            client.send(request("/mark?name=half"))
            client.shutdown()
            assert client.response().status == 200


@pytest.mark.parametrize("args", [(), ("--abandon-timeout", "0")], ids=["default", "never"])
def test_who_only_shuts_its_side_is_answered_after_a_while(launch, args):
    """The worker is busy for longer than anybody asks for nothing, and for less than `abandon_timeout`."""
    server = launch("threaded:app", *args)
    with contextlib.ExitStack() as stack:
        busy = occupy(server, stack)
        waiting = stack.enter_context(server.client())
        waiting.send(request("/mark?name=half"))
        waiting.shutdown()
        with contextlib.suppress(TimeoutError):
            waiting.sock.settimeout(1.2)
            waiting.sock.recv(1)
        waiting.sock.settimeout(20)
        (server.workdir / "gate").touch()
        assert waiting.response().status == 200
        for client in busy:
            assert client.response().status == 200


@pytest.mark.parametrize("way", ["close", "reset", "shutdown"])
def test_an_application_can_ask(launch, way):
    server = launch("threaded:app")
    client = server.client()
    client.send(request("/watch"))
    wait_for("the application to watch", (server.workdir / "watching").exists)
    getattr(client, way)()
    wait_for("the application to notice", (server.workdir / "gone").exists)
    client.close()


def test_a_thread_of_the_application_can_ask(launch, flavour):
    """Where requests run in threads."""
    if not flavour.threads:
        pytest.skip("the worker's thread has the connections, and waits for this one")
    server = launch("threaded:app")
    client = server.client()
    client.send(request("/watch-elsewhere"))
    wait_for("the application to watch", (server.workdir / "watching").exists)
    client.close()
    wait_for("the application to notice", (server.workdir / "gone").exists)


def test_an_application_in_a_greenlet_can_ask(launch_gevent):
    server = launch_gevent("threaded:app")
    client = server.client()
    client.send(request("/watch"))
    wait_for("the application to watch", (server.workdir / "watching").exists)
    assert server.get("/pid").status == 200
    client.close()
    wait_for("the application to notice", (server.workdir / "gone").exists)
