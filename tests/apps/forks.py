"""Requests that fork: their children are no workers, whatever happens to them."""

import multiprocessing
import os
import sys
import time

from routes import Routes

app = Routes()


@app.text("/leaves")
def leaves(environ):
    """The child leaves as a program does."""
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
    return str(os.getpid())


@app.text("/terminated")
def terminated(environ):
    """The child has the worker's signal handlers, and gets the signal that stops one."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.2,))
    process.start()
    process.terminate()
    process.join()
    return str(os.getpid())
