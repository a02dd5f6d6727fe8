"""gevent's sockets with methods of ours: what they do is what gevent's own do, on its own loop."""

import functools
import json
import os
import signal
import subprocess
import sys

import pytest
from harness import APPS, environment

LIBEV = {"GEVENT_LOOP": "libev-cext"}
OURS = {"GEVENT_LOOP": "rgunicorn.gevent.Loop"}
DRIVERS = ["uring", "epoll"]
#: How many exchanges the stress test makes; a million in the long run.
EXCHANGES = int(os.environ.get("RGUNICORN_EXCHANGES", "20000"))
PATIENCE_S = 60 + EXCHANGES // 1000

pytestmark = [pytest.mark.own(reason="of programs without a server"), pytest.mark.one_driver]


def run(program, *args, **settings):
    command = [sys.executable, str(APPS / program), *map(str, args)]
    done = subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "panicked" not in done.stderr, done.stderr
    return json.loads(done.stdout)


@functools.cache
def on_libev():
    return run("socket_cases.py", **LIBEV)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("sockets", ["1", "0"])
def test_cases_are_those_of_gevent(driver, sockets):
    found = run("socket_cases.py", **OURS, RGUNICORN_IO_DRIVER=driver, RGUNICORN_GEVENT_SOCKETS=sockets)
    assert found["loop"] == "rgunicorn.gevent"
    assert found["methods"] == [{"1": "method_descriptor", "0": "function"}[sockets]] * 4
    assert found["found"] == on_libev()["found"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_byte_is_lost_or_doubled(driver):
    found = run("socket_stress.py", EXCHANGES, 1, **OURS, RGUNICORN_IO_DRIVER=driver)
    assert found["exchanges"] >= EXCHANGES - 100
    assert min(found["timeouts"], found["socket timeouts"], found["kills"]) > EXCHANGES // 200


METHODS = """
import socket

def app(environ, start_response):
    start_response("200 OK", [])
    return [type(socket.socket.recv).__name__.encode()]
"""


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        ([], {}, b"method_descriptor"),
        (["--no-gevent-sockets"], {}, b"function"),
        ([], {"RGUNICORN_GEVENT_SOCKETS": "0"}, b"function"),
        ([], {"RGUNICORN_GEVENT_SOCKETS": "yes"}, b"method_descriptor"),
    ],
)
def test_the_setting(launch_gevent, workdir, args, env, expected):
    (workdir / "methods.py").write_text(METHODS)
    server = launch_gevent("methods:app", *args, workdir=workdir, env=env)
    assert server.get("/").body == expected


def test_a_reload_takes_the_setting(launch_gevent, workdir):
    (workdir / "methods.py").write_text(METHODS)
    server = launch_gevent("methods:app", "--preload", workdir=workdir, config="gevent_sockets = False\n")
    assert server.get("/").body == b"function"
    old = server.workers()
    (workdir / "test.conf.py").write_text("gevent_sockets = True\n")
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=old)
    assert server.get("/").body == b"method_descriptor"


REPLACED = """
import gevent.socket
import gevent._socket3
gevent.get_hub()
socket = gevent._socket3.socket
before = socket.recv

def recv(self, *args):
    return before(self, *args).upper()

socket.recv = recv

def app(environ, start_response):
    one, other = gevent.socket.socketpair()
    other.sendall(b"shout")
    start_response("200 OK", [])
    return [one.recv(10), b" ", type(socket.recv).__name__.encode(), b" ", type(socket.sendall).__name__.encode()]
"""
EARLY = """
import gevent._socket3
socket = gevent._socket3.socket
before = socket.recv
socket.recv = lambda self, *args: before(self, *args).upper()
"""


@pytest.mark.parametrize(
    ("args", "expected"),
    [((), b"SHOUT function method_descriptor"), (("--no-gevent-sockets",), b"SHOUT function function")],
)
@pytest.mark.parametrize("when", ["by the application", "by the configuration"])
def test_a_method_that_a_program_has_replaced_stays(launch_gevent, workdir, args, expected, when):
    """Whether it was ours or gevent's that it stands in front of."""
    early = when == "by the configuration"
    lines = REPLACED if not early else REPLACED.replace("socket.recv = recv", "")
    (workdir / "replaced.py").write_text(lines)
    server = launch_gevent("replaced:app", *args, workdir=workdir, config=EARLY if early else None)
    assert server.get("/").body == expected
