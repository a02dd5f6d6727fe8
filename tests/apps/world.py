"""An application that does what applications do outside of requests: signals, timers, threads, children, forks.

What happens while no request runs is written to files in the working directory, one character for each event.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

from routes import Routes, parameter

app = Routes()
TICK_S = 0.05


def mark(name):
    """One more event."""
    with open(name, "a") as file:
        file.write(".")


def tick():
    """A thread of the application."""
    while True:
        mark("thread")
        time.sleep(TICK_S)


# Handlers and timers set at import are the application's: they come after the server's own.
signal.signal(signal.SIGUSR2, lambda signum, frame: mark("usr2"))
signal.signal(signal.SIGALRM, lambda signum, frame: mark("alarm"))
if os.environ.get("WORLD_TIMER"):
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
if os.environ.get("WORLD_THREAD"):
    threading.Thread(target=tick, daemon=True).start()
if os.environ.get("WORLD_FORK"):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

LOOK = """
import json, os
links = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        links[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        pass
with open("/proc/self/status") as status:
    blocked = [line.split()[1] for line in status if line.startswith("SigBlk")]
print(json.dumps({"links": links, "blocked": int(blocked[0], 16)}))
"""


@app.text("/child")
def child_process(environ):
    """What a child that closes nothing finds open and blocked."""
    done = subprocess.run([sys.executable, "-c", LOOK], close_fds=False, capture_output=True, text=True, check=True)
    return done.stdout


@app.text("/large-child")
def large_child(environ):
    """A child with much output, read to its end."""
    done = subprocess.run([sys.executable, "-c", "print('x' * 1000000)"], capture_output=True, check=True)
    return str(len(done.stdout))


@app.text("/fork")
def fork(environ):
    """?end=exit|system-exit|exec: the child ends in that way; the parent answers with its status."""
    end = parameter(environ, "end")
    child = os.fork()
    if child == 0:
        if end == "exec":
            os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(5)"])
        if end == "system-exit":
            sys.exit(5)
        os._exit(5)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@app.route("/fork-returns")
def fork_returns(environ, start_response):
    """?from=call|iteration|close|write: the child goes on as if it were the parent."""
    place = parameter(environ, "from")
    write = start_response("200 OK", [])

    def forked():
        pid = os.fork()
        return b"child" if pid == 0 else str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode()

    class Result:
        def __iter__(self):
            if place == "iteration":
                yield forked()
            yield b" end"

        def close(self):
            if place == "close":
                mark(f"closed-{forked().decode()}")

    if place == "call":
        return [forked()]
    if place == "write":
        text = forked()
        if text == b"child":
            try:
                write(text)
            except RuntimeError:
                os._exit(7)
        write(text)
    return Result()


@app.text("/fork-lives-on")
def fork_lives_on(environ):
    """A child that outlives the request and its connection by a moment."""
    if os.fork() == 0:
        time.sleep(0.3)
        mark("outlived")
        os._exit(0)
    return "forked"


def double(pipe):
    pipe.send(pipe.recv() * 2)
    pipe.close()


@app.text("/multiprocessing")
def with_multiprocessing(environ):
    """A process of multiprocessing's fork context."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=double, args=(theirs,))
    process.start()
    ours.send(21)
    result = ours.recv()
    process.join()
    return json.dumps([result, process.exitcode])


@app.text("/thread-in-request")
def thread_in_request(environ):
    """A thread that is started and joined inside a request."""
    results = []
    thread = threading.Thread(target=lambda: results.append(sum(range(100_000))))
    thread.start()
    thread.join()
    return str(results[0])


@app.text("/alarm-in-request")
def alarm_in_request(environ):
    """A timer that interrupts a blocking call of the request."""
    signal.setitimer(signal.ITIMER_REAL, TICK_S)
    time.sleep(4 * TICK_S)
    return str(len(open("alarm").read()))
