"""`gunicorn.socket`: free for whoever ignores it, the whole connection for whoever takes it."""

import pytest
from harness import sockets, wait_for
from rawhttp import request
from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed

UPGRADE = {"Connection": "Upgrade", "Upgrade": "echo"}


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("takeover:app", "-w", "2")


@pytest.mark.parametrize("path", ["/looks", "/held"])
def test_looking_at_it_does_no_harm(server, path):
    """The response is the server's business still; whether the connection is kept after it is left open here."""
    for _ in range(3):
        response = server.get(path)
        assert response.body in (b"True AF_INET True 127.0.0.1", b"held")
    assert server.worker_pid()


@pytest.mark.own(reason="Gunicorn's socket is the connection's, and is there also behind the response")
def test_looking_at_it_behind_the_response_leaves_the_connection_to_one_owner(launch):
    """It is the server's still, and the next request is answered; or the application's, and closes with its request."""
    server = launch("takeover:app", "--keep-alive", "1")
    with server.client() as client:
        assert client.get("/looks-behind").body == b"ok"
        client.send(request("/pid"))
        client.rest()
    pid = server.worker_pid()
    before = sockets(pid)
    for _ in range(5):
        with server.client() as client:
            assert client.get("/looks-behind").body == b"ok"
            client.send(request("/pid"))
            client.rest()
    wait_for("the connections to end", lambda: len(sockets(pid)) <= len(before))


def test_many_connections_that_ignore_it_leave_no_descriptors(server):
    for _ in range(100):
        assert server.get("/pid").status == 200
    assert server.get("/looks").status == 200


def take_over(client, *later):
    """Upgrade a connection to the echo protocol, with bytes that follow the request's head."""
    client.send(request("/echo", headers=UPGRADE) + b"".join(later))
    answer = client.head()
    assert (answer.status, answer.header("Upgrade")) == (101, "echo")


def test_echo(server):
    with server.client() as client:
        take_over(client)
        client.send(b"hello")
        assert client.exactly(5) == b"hello"
        client.send(b"more" * 50_000 + b"END\n")
        assert client.exactly(200_004).endswith(b"moreEND\n")
        assert client.rest() == b""
    assert server.get("/pid").status == 200


def test_the_client_vanishes(server):
    for _ in range(3):
        with server.client() as client:
            take_over(client)
    assert server.get("/pid").status == 200


@pytest.mark.own
def test_bytes_behind_the_head_are_not_lost(server):
    """A client may speak its protocol without waiting for the 101. Gunicorn's parser keeps what it has read ahead."""
    with server.client() as client:
        take_over(client, b"early END\n")
        assert client.rest() == b"early END\n"


def test_nothing_of_the_server_follows(server):
    """No second response, no error page, no last chunk on a connection that is no longer the server's."""
    with server.client() as client:
        take_over(client)
        client.send(b"END\n")
        assert client.rest() == b"END\n"


@pytest.mark.own
def test_a_taken_socket_belongs_to_its_request_alone(launch):
    """While one response is in progress, others come and go."""
    server = launch("takeover:app", "--keep-alive", "30")
    with server.client() as long, server.client() as other:
        long.send(request("/looks-then-long"))
        assert long.head().status == 200
        for _ in range(3):
            mine, name = other.get("/port").body.split()
            assert name == b"ClientSocket"
        assert b"x" * 65536 in long.rest()
        for _ in range(3):
            assert other.get("/port").body.split() == [mine, b"ClientSocket"]
        mine, seen = other.get("/port?ask").body.split()
        assert mine == seen


# flask-sock on simple-websocket, as used in the wild.


@pytest.fixture(scope="module")
def flask(launch_module):
    return launch_module("flask_app:app", "-w", "2")


def websocket(server):
    return WebSocket.connect("ws://{}:{}/echo".format(*server.address))


def test_websocket_echo(flask):
    ws = websocket(flask)
    try:
        for number in range(50):
            ws.send(f"message {number}")
            assert ws.receive(timeout=10) == f"MESSAGE {number}"
        ws.send("x" * 200_000)
        assert ws.receive(timeout=10) == "X" * 200_000
    finally:
        ws.close()
    with pytest.raises(ConnectionClosed):
        ws.receive(timeout=10)


def test_websocket_closed_by_the_client_frees_the_worker(flask):
    for _ in range(6):
        ws = websocket(flask)
        ws.send("a")
        assert ws.receive(timeout=10) == "A"
        ws.close()
    assert flask.get("/").status == 200
