"""An application for tests of heartbeats: code that keeps the interpreter lock, and code that waits without it."""

import _thread
import ctypes
import os
import re
import sys
import threading
import time

from routes import Routes, parameter

app = Routes()
# Functions that are called through it keep the lock.
libc = ctypes.PyDLL(None)
libc_unlocked = ctypes.CDLL(None)
LONG_S = 60


def backtrack():
    """A regular expression that would take years."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def sleep():
    libc.sleep(LONG_S)


WAYS = {"sleep": sleep, "backtrack": backtrack}


def note():
    """Tells the test that a request is inside."""
    with open(f"in-{threading.get_ident()}", "w"):
        pass


@app.text("/keep")
def keep(environ):
    """?way=: keeps the lock in the request."""
    note()
    WAYS[parameter(environ, "way")]()
    return "kept"


@app.text("/keep-behind")
def keep_behind(environ):
    """Keeps the lock in a thread that outlives the request; in one of the system's also where gevent has patched."""

    def later():
        libc_unlocked.usleep(200_000)
        sleep()

    start = sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread") if "gevent" in sys.modules else None
    (start or _thread.start_new_thread)(later, ())
    return "soon"


@app.text("/keep-in-greenlet")
def keep_in_greenlet(environ):
    """The same in a greenlet, where gevent has patched."""
    threading.Timer(0.2, sleep).start()
    return "soon"


@app.text("/wait")
def wait(environ):
    """?s=: waits without the lock."""
    time.sleep(float(parameter(environ, "s")))
    return str(os.getpid())


@app.text("/keep-shortly")
def keep_shortly(environ):
    """?s=&pause=&n=: keeps the lock n times, and gives it up in between."""
    for _ in range(int(parameter(environ, "n"))):
        libc.usleep(int(float(parameter(environ, "s")) * 1e6))
        time.sleep(float(parameter(environ, "pause")))
    return str(os.getpid())
