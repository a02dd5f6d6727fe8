"""One hostile client does not stop the others: judged by what they get meanwhile, and by what one turn does."""

import contextlib
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from attackers import KINDS
from rawhttp import Client, request

TINY = b"1\r\nx\r\n"
CHUNKS = 2_000_000


class Uploader(threading.Thread):
    """Sends one request with very many chunks of one byte as fast as it can."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.client = Client(address, timeout=60)
        self.answer = None

    def run(self):
        self.client.send(request("/upload", method="POST", headers={"Transfer-Encoding": "chunked"}))
        block = TINY * 10_000
        for _ in range(CHUNKS // 10_000):
            self.client.send(block)
        self.client.send(b"0\r\n\r\n")
        self.answer = self.client.response()
        self.client.close()


@pytest.mark.own(reason="Gunicorn's workers with threads receive each in its own")
@pytest.mark.one_driver
def test_chunks_of_one_byte_hold_nobody_up(launch):
    """How many answers others get meanwhile depends on the CPU that they get; what a turn does for it does not."""
    server = launch("faults:app", "--log-level", "debug")
    uploader = Uploader(server.address)
    answers = 0
    with server.client() as client:
        uploader.start()
        while uploader.is_alive():
            assert client.get("/pid").status == 200
            answers += uploader.is_alive()
        uploader.join()
    assert uploader.answer is not None
    assert uploader.answer.body == str(CHUNKS).encode()
    assert answers > 0
    check_turns(server)


@pytest.mark.own(reason="Gunicorn reads them all")
def test_chunk_extensions_without_end_are_refused(launch):
    """A kilobyte of extension for each byte of data."""
    server = launch("faults:app")
    with server.client() as client:
        client.send(request("/upload", method="POST", headers={"Transfer-Encoding": "chunked"}))
        chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
        try:
            for _ in range(1_000):
                client.send(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert client.rest().startswith(b"HTTP/1.1 400 ")


# The others, beside each kind of attack: requests, and at least so many seconds.
REQUESTS, ATTACK_S = 40, 0.5
# Half of them are answered within this time: some turns of the loop, and a busy machine. A turn that handled all that
# one client can send took 0.6 s and more.
USUAL_S_MAX = 0.2
# What the worker's loop does between two looks at the application, as it says at its end. The input that a wait brings
# is bounded, and there is room for as much short input, and for a buffer beyond it. The time is 2 ms by itself, and
# that for which a busy machine runs other processes.
INPUT_MAX = (1024 + 16) * 1024
TURN_MS_MAX = 500.0
LONGEST = re.compile(r"has handled clients for (\S+) ms in its longest turn, and (\d+) bytes in its fullest")


@contextlib.contextmanager
def attacked(address, kind):
    """While a process attacks a server in this way."""
    script = str(Path(__file__).with_name("attackers.py"))
    process = subprocess.Popen([sys.executable, script, kind, *map(str, address)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
            assert process.poll() is None, "the attack is over"
        finally:
            process.kill()


def times(server, keeps):
    """Seconds of each request of others, on new connections and, where they are kept, on an old one."""
    found = []
    with server.client() as old:
        until = time.monotonic() + ATTACK_S
        while len(found) < REQUESTS or time.monotonic() < until:
            begun = time.monotonic()
            answer = old.get("/pid") if keeps and len(found) % 2 else server.get("/pid")
            assert answer.status == 200
            found.append(time.monotonic() - begun)
    return found


def check_fair(start, *args, keeps=True, **options):
    server = start("bulk:app", "-w", "1", "--log-level", "debug", "--keep-alive", "75", *args, **options)
    for kind in KINDS:
        # Each costs a thread for as long as it does not read: docs/threads.md.
        if kind == "slow_readers_of_streams" and server.flavour.threads:
            continue
        with attacked(server.address, kind):
            usual = statistics.median(times(server, keeps))
        assert usual <= USUAL_S_MAX, f"{kind}: half of the others' requests take more"
    check_turns(server)


def check_turns(server):
    """Stop a server with one worker, and see what its loop has done between two looks at the application."""
    assert server.terminate() == 0
    ((took_ms, received),) = LONGEST.findall(server.log)
    assert int(received) <= INPUT_MAX
    assert float(took_ms) <= TURN_MS_MAX


@pytest.mark.own(reason="Gunicorn's workers with threads can be kept from all others by a few clients")
def test_no_attack_holds_up_the_others(launch):
    check_fair(launch)


@pytest.mark.own(reason="Gunicorn has a greenlet for each connection")
def test_no_attack_holds_up_the_others_in_greenlets(launch_gevent):
    check_fair(launch_gevent)


@pytest.mark.one_thread
@pytest.mark.own(reason="Gunicorn's sync worker has one client at a time")
def test_no_attack_holds_up_the_others_under_sync(launch):
    driver = launch.flavour.name.removeprefix("rgunicorn-")
    check_fair(launch, "-k", "sync", "--io-driver", driver, keeps=False, untyped=True)
