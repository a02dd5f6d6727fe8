"""Children that the application forks keep nothing of the server half alive."""

import contextlib
import os
import signal

import pytest
from rawhttp import connect

pytestmark = pytest.mark.own(reason="Gunicorn closes descriptors only, and a child keeps them all")


@pytest.fixture
def forked(launch):
    """A server, and the client whose request has forked a child that lives on."""
    server = launch("faults:app", "--keep-alive", "1", bind="127.0.0.1:0")
    with server.client() as client:
        child = int(client.get("/fork").body)
        yield server, client, child
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def test_a_connection_that_is_over_is_over(forked):
    _, client, _ = forked
    client.assert_closed()


def test_a_port_that_is_given_up_is_given_up(forked):
    server, _, child = forked
    assert server.terminate() == 0
    with pytest.raises(ConnectionRefusedError):
        connect(server.address)
    os.kill(child, 0)
    os.kill(child, signal.SIGKILL)


def test_connections_of_a_worker_that_was_killed_are_over(launch):
    server = launch("faults:app", deaths=True)
    with server.client() as idle, server.client() as client:
        pid = int(idle.get("/pid").body)
        child = int(client.get("/fork").body)
        os.kill(pid, signal.SIGKILL)
        try:
            idle.assert_closed()
            client.assert_closed()
        finally:
            os.kill(child, signal.SIGKILL)
    assert server.worker_pid() != pid


def test_a_child_has_no_sockets_of_the_server(launch):
    server = launch("faults:app")
    with server.client() as one, server.client() as two:
        assert one.get("/pid").status == 200
        assert two.get("/descriptors-of-a-child").body == b"0"
        # And the parent has all of its own.
        assert one.get("/pid").status == two.get("/pid").status == 200
    assert server.get("/pid").status == 200
