"""The stack rule (CONTRIBUTING.md): no random sequence of switches, kills and drops finds Rust with a hand in a frame.

A failure prints the seed; RGUNICORN_SEED replays its decisions. Run it with a build that has debug assertions and with
one that has not: the first says where the rule is broken, the second has the optimiser's idea of what a frame is.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading

import pytest
from harness import APPS, environment, wait_for
from rawhttp import request

pytestmark = pytest.mark.own

SEED = int(os.environ.get("RGUNICORN_SEED") or random.SystemRandom().getrandbits(32))
TORTURE = os.environ.get("RGUNICORN_TORTURE", "") not in ("", "0")
CLIENTS = 8
REQUESTS = 6_000 if TORTURE else 1_000
KNOWN = bytes(range(251)) * 2500
# Gunicorn's words, and ours, for requests that end by an error; what follows must be one that the application threw.
THROWN = r"stress_world\.Boom|gevent\.timeout\.Timeout: .*|rgunicorn\.RequestBodyError: .*|OSError: .*"


@pytest.mark.timeout(240 if TORTURE else 90)
@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_greenlets_of_any_program(driver):
    settings = {
        "GEVENT_LOOP": "rgunicorn.gevent.Loop", "RGUNICORN_IO_DRIVER": driver, "RGUNICORN_SEED": str(SEED),
        "RGUNICORN_TORTURE": os.environ.get("RGUNICORN_TORTURE", ""),
    }  # fmt: skip
    command = [sys.executable, str(APPS / "stress_greenlets.py")]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
    told = f"RGUNICORN_SEED={SEED}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    assert f"{driver} seed {SEED}" in done.stdout, told
    assert not re.search("panicked|Traceback|Exception ignored", done.stderr), told


class Misbehaving(threading.Thread):
    """A client that sends good requests, and may not wait for the ends of its own and of the answers."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server = server
        self.number = number
        self.complete = 0
        self.findings = []

    def run(self):
        rng = random.Random(f"{SEED}:client {self.number}")
        for _ in range(REQUESTS // CLIENTS):
            with contextlib.suppress(OSError), self.server.client() as client:
                while self.exchange(rng, client):
                    pass

    def exchange(self, rng, client):
        """One request; whether there may be another one on this connection."""
        seed = rng.randrange(1 << 30)
        body = expected(seed)[: rng.choice((0, 10, 5_000, 150_000))]
        data = request(f"/work?seed={seed}", method="POST", body=body)
        if rng.random() < 0.2:
            client.send(data[: rng.randrange(len(data))])
            return leave(rng, client)
        cut = rng.randrange(len(data))
        client.send(data[:cut], data[cut:])
        if rng.random() < 0.2:
            return leave(rng, client)
        try:
            answer = client.response("POST")
        except (AssertionError, OSError):
            # The request was killed, and its connection with it.
            return False
        if answer.status == 200:
            self.complete += 1
            if answer.body != expected(seed)[: int(answer.header("X-Size"))]:
                self.findings.append(f"other bytes answered request {seed}")
        elif answer.status != 500:
            self.findings.append(f"request {seed} was answered by {answer.status}")
        return answer.header("Connection") != "close" and rng.random() < 0.7


def leave(rng, client):
    if rng.random() < 0.5:
        client.reset()
    return False


def expected(seed):
    return KNOWN[seed % 251 :]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.timeout(240 if TORTURE else 90)
def test_requests_of_a_worker(launch_gevent):
    server = launch_gevent("stress_requests:app", env={"STRESS_SEED": str(SEED)})

    def state(end=""):
        return json.loads(server.get(f"/state?end={end}").body)

    # What the first request makes stays: the world, threads for names.
    server.get("/work?seed=1")
    wait_for("the first request's end", lambda: not state(end=1)["alive"])
    pid = state()["pid"]
    before = descriptors(pid)
    clients = [Misbehaving(server, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    wait_for("the last request's end", lambda: not state(end=1)["alive"])
    wait_for("the descriptors to be closed", lambda: descriptors(pid) <= before)
    last = state()
    findings = last["findings"] + [finding for client in clients for finding in client.findings]
    told = f"RGUNICORN_SEED={SEED}\n{last['counts']}\n{findings}\n{server.log[-20_000:]}"
    assert last["pid"] == pid, told
    assert not findings, told
    # Enough of them get through to mean something.
    assert sum(client.complete for client in clients) > REQUESTS // 10, told
    assert not re.search("panicked|Internal error|Exception in worker|Exception ignored", server.log), told
    ends = re.findall(r"^Traceback .*\n(?:[ ].*\n|\n)*(.*)$", server.log, re.MULTILINE)
    assert not [end for end in ends if not re.fullmatch(THROWN, end)], told
    assert server.terminate() == 0
