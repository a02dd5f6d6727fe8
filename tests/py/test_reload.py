"""`--reload`: new code is served when a source file changes, and a syntax error is shown instead."""

import contextlib
import os
import re
import signal
import threading
import time

import pytest
from harness import run_to_end, wait_for
from rawhttp import Client

ENGINES = ["auto", "poll"]
TRIES = 5
APP = """
def app(environ, start_response):
    body = b"{mark}"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def write(path, text):
    """Into its place at once, as editors do; never with the time of the file before."""
    new = path.with_suffix(".new")
    new.write_text(text)
    stamp = time.time_ns()
    if path.exists():
        stamp = max(stamp, path.stat().st_mtime_ns + 10**9)
    os.utime(new, ns=(stamp, stamp))
    new.replace(path)


def start(launch, workdir, *args, engine="auto", **options):
    write(workdir / "changing.py", APP.format(mark="one"))
    env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(workdir)}
    server = launch(
        "changing:app", "--reload", "--reload-engine", engine, *args, workdir=workdir, env=env, deaths=True, **options
    )
    wait_for("the first version", lambda: server.get().body == b"one")
    server.wait_log("Reloader is on. Use in development only!")
    return server


def change(server, name, text):
    """Write a file until its change is noticed: one that is older than the watch's first look would be none."""
    line = rf"\[INFO\] Worker reloading: .*{name} modified"
    before = len(re.findall(line, server.log))

    def noticed():
        return len(re.findall(line, server.log)) > before

    for _ in range(TRIES):
        write(server.workdir / name, text)
        with contextlib.suppress(AssertionError):
            return wait_for("the change to be noticed", noticed, timeout=3)
    raise AssertionError(f"a change of {name} was not noticed\n{server.all_output()}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_changed_source_file(launch, workdir, engine):
    server = start(launch, workdir, engine=engine)
    change(server, "changing.py", APP.format(mark="two"))
    wait_for("the second version", lambda: answer(server) == b"two")
    assert server.terminate(signal.SIGTERM) == 0


def answer(server):
    """What is answered, if anything is at this moment."""
    try:
        return server.get().body
    except (OSError, AssertionError):
        return None


@pytest.mark.parametrize("extra", ["extra.txt", "*.txt"])
def test_an_extra_file(launch, workdir, extra):
    write(workdir / "extra.txt", "one")
    server = start(launch, workdir, "--reload-extra-file", extra)
    before = server.workers()[0]
    change(server, "extra.txt", "two")
    wait_for("another worker", lambda: server.workers() and before not in server.workers())


def test_a_syntax_error_is_answered(launch, workdir):
    server = start(launch, workdir)
    change(server, "changing.py", "def app(:\n")
    wait_for("the error", lambda: b"SyntaxError" in (answer(server) or b""))
    response = server.get()
    assert response.status == 500
    assert response.header("Content-Type").startswith("text/plain")
    change(server, "changing.py", APP.format(mark="three"))
    wait_for("the third version", lambda: answer(server) == b"three")


def test_an_extra_file_that_is_not_there(flavour, workdir):
    done = run_to_end(flavour, workdir, "--reload-extra-file", "missing.txt", "life:app")
    assert done.returncode == 1
    assert "missing.txt" in done.stderr


@pytest.mark.own
def test_no_request_fails(launch, workdir):
    """Connections that come while one worker leaves and the next one loads wait, and those that are open are told."""
    server = start(launch, workdir, "-w", "2")
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                with Client(server.address) as client:
                    while not stop.is_set():
                        response = client.get("/")
                        assert response.status == 200
                        if response.header("Connection") == "close":
                            break
            except (OSError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for mark in ("two", "three"):
        change(server, "changing.py", APP.format(mark=mark))
        wait_for("the new version", lambda mark=mark: answer(server) == mark.encode())
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
