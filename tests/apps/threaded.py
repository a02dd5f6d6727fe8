"""An application for tests of workers with threads: who runs where, what a thread keeps, who has left."""

import asyncio
import json
import os
import pathlib
import signal
import sys
import threading
import time

from routes import Routes, parameter

app = Routes()
WAIT_S = 20.0
POLL_S = 0.005
kept = threading.local()
together = threading.Barrier(4)


@app.text("/together")
def meet(environ):
    """Answers when four requests are in the application at the same time: the name of the thread."""
    together.wait(WAIT_S)
    return threading.current_thread().name


@app.text("/thread")
def thread(environ):
    """What an application can see of the thread that runs it."""
    current = threading.current_thread()
    started = threading.Thread(target=time.time)
    facts = {
        "daemon": current.daemon,
        "a thread's daemon": started.daemon,
        "class": type(current).__name__,
        "listed": current in threading.enumerate(),
        "name": current.name.rstrip("0123456789"),
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "stack": threading.stack_size(),
        "traced": [sys.gettrace(), sys.getprofile()],
        "running loop": asyncio._get_running_loop(),
    }
    return json.dumps(facts)


@app.text("/background")
def background(environ):
    """Starts work that outlives the request, and the server's wish to stop."""

    def work():
        time.sleep(1)
        pathlib.Path("worked").touch()

    threading.Thread(target=work).start()
    return str(os.getpid())


@app.text("/kept")
def count(environ):
    """How many requests this thread has counted so, and its identity."""
    kept.number = getattr(kept, "number", 0) + 1
    return f"{threading.get_ident()} {kept.number}"


@app.text("/main")
def main(environ):
    """Whether this is the main thread."""
    return str(threading.current_thread() is threading.main_thread())


@app.text("/gate")
def gate(environ):
    """Notes that it runs and blocks until there is a file called `gate`. With ?id=NAME the note has that name."""
    pathlib.Path(f"in-{parameter(environ, 'id', 'gate')}-{os.getpid()}-{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists("gate") and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return str(os.getpid())


@app.text("/mark")
def mark(environ):
    """Makes the file of this name: the request was served."""
    pathlib.Path(parameter(environ, "name")).touch()
    return "marked"


@app.text("/pid")
def pid(environ):
    return str(os.getpid())


@app.text("/watch")
def watch(environ):
    """Works until its client has gone, and says so with a file."""
    gone = environ["rgunicorn.client_disconnected"]
    pathlib.Path("watching").touch()
    deadline = time.monotonic() + WAIT_S
    while not gone() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    pathlib.Path("gone" if gone() else "not-gone").touch()
    return "done"


@app.text("/watch-elsewhere")
def watch_elsewhere(environ):
    """As `/watch`, asked by a thread of the application's own."""
    done = []
    thread = threading.Thread(target=lambda: done.append(watch(environ)))
    thread.start()
    thread.join()
    return done[0]


class Closing:
    """A body whose `close()` takes its time."""

    def __iter__(self):
        yield b"body"

    def close(self):
        time.sleep(0.3)
        pathlib.Path("closed").touch()


@app.route("/closing")
def closing(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return Closing()


@app.text("/closed")
def closed(environ):
    """Whether that has happened; the next request of the same connection comes after it."""
    return str(os.path.exists("closed"))


@app.text("/fork")
def fork(environ):
    """A child that comes back out of the application; its parent waits for it."""
    child = os.fork()
    if child == 0:
        return "the child's answer is nobody's"
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


lent = {}


@app.route("/lend")
def lend(environ, start_response):
    """Lends its `write` and its early hints to other requests until there is a file called `gate`."""
    lent["write"], lent["hints"] = start_response("200 OK", []), environ["wsgi.early_hints"]
    gate(environ)
    return [b"its own"]


@app.text("/borrow")
def borrow(environ):
    """?what=: calls what another request has lent."""
    argument = {"write": b"of another", "hints": [("Link", "</of-another>")]}[parameter(environ, "what")]
    try:
        lent[parameter(environ, "what")](argument)
    except RuntimeError as error:
        return f"refused: {error}"
    return "called"
