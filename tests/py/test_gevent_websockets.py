"""WebSockets in greenlets: one worker has many open at once, beside ordinary requests."""

import contextlib
import os

import pytest
import socketio
from harness import APPS, wait_for
from masters import wait_answers
from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed

SEVERAL = 8


@pytest.fixture(scope="module")
def server(launch_gevent_module):
    return launch_gevent_module("flask_app:app")


def close(websocket):
    """Close it, if the test has not done so already."""
    with contextlib.suppress(ConnectionClosed):
        websocket.close()


@contextlib.contextmanager
def sockets(server, count):
    """So many open connections."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(WebSocket.connect("ws://{}:{}/echo".format(*server.address)))
            stack.callback(close, opened[-1])
        yield opened


def assert_echo(websocket, text):
    websocket.send(text)
    assert websocket.receive(timeout=10) == text.upper()


def test_many_are_open_at_once(server):
    with sockets(server, SEVERAL) as opened:
        for round_ in range(5):
            for number, websocket in enumerate(opened):
                assert_echo(websocket, f"round {round_} of {number}")
            assert server.get("/me").body == b"nobody"


def test_messages_that_wait_do_not_mix(server):
    with sockets(server, SEVERAL) as opened:
        for number, websocket in enumerate(opened):
            for message in range(20):
                websocket.send(f"m{number}.{message}")
        for number, websocket in reversed(list(enumerate(opened))):
            assert [websocket.receive(timeout=10) for _ in range(20)] == [f"M{number}.{at}" for at in range(20)]


def test_a_large_message_while_others_talk(server):
    with sockets(server, 2) as [large, small]:
        large.send("x" * 1_000_000)
        for number in range(20):
            assert_echo(small, f"small {number}")
        assert large.receive(timeout=10) == "X" * 1_000_000


def test_closing_one_leaves_the_others(server):
    with sockets(server, 3) as [first, *others]:
        assert_echo(first, "hello")
        first.close()
        for websocket in others:
            assert_echo(websocket, "still here")
    wait_for("the page", lambda: server.get("/").status == 200)


HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "geventwebsocket":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Hide())
"""


def test_socketio_beside_gevent_websocket(launch_gevent):
    """Where that is installed, it takes its handler for the server's, and there is no upgrade."""
    server = launch_gevent("foreign_socketio:app")
    host, port = server.address
    client = socketio.Client()
    client.connect(f"http://{host}:{port}", transports=["polling", "websocket"])
    assert client.call("call", {"a": 1})["data"] == {"a": 1}
    assert client.transport() == "polling"
    client.disconnect()


@pytest.mark.own(reason="Gunicorn says nothing")
def test_one_warning_for_all_workers(launch_gevent):
    server = launch_gevent("foreign_socketio:app", "-w", "3")
    wait_answers(server, server.wait_workers(3))
    assert server.log.count("pip uninstall gevent-websocket") == 1


def test_socketio_without_gevent_websocket(launch_gevent, workdir):
    (workdir / "sitecustomize.py").write_text(HIDDEN)
    env = {"PYTHONPATH": f"{workdir}{os.pathsep}{APPS}"}
    server = launch_gevent("foreign_socketio:app", workdir=workdir, env=env)
    host, port = server.address
    client = socketio.Client()
    client.connect(f"http://{host}:{port}", transports=["polling", "websocket"])
    wait_for("the upgrade", lambda: client.transport() == "websocket")
    assert client.call("call", {"a": 1})["data"] == {"a": 1}
    client.disconnect()
    assert "gevent-websocket" not in server.log
