"""Requests that fork: their children are no workers, whatever happens to them."""

import json
import multiprocessing
import os
import signal
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
    """The child gets the signal that stops a worker."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.2,))
    process.start()
    process.terminate()
    process.join()
    return str(os.getpid())


def square(number):
    return number * number


@app.text("/ended")
def ended(environ):
    """Processes that are ended right after they began, before they can have done anything."""
    context = multiprocessing.get_context("fork")
    statuses = []
    for _ in range(10):
        process = context.Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(10)
        statuses.append(process.exitcode)
        process.kill()
    return json.dumps(statuses)


@app.text("/pool")
def pool(environ):
    """A pool whose processes are ended when it is left."""
    with multiprocessing.get_context("fork").Pool(3) as workers:
        found = workers.map(square, range(10))
    workers.join()
    return json.dumps(found)


@app.text("/dispositions")
def dispositions(environ):
    """The handlers of a child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        names = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGABRT", "SIGUSR1", "SIGHUP", "SIGUSR2", "SIGWINCH", "SIGTTIN"]
        found = {name: str(getattr(signal.getsignal(getattr(signal, name)), "__name__", "SIG_DFL")) for name in names}
        found["blocked"] = len(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader, "rb") as file:
        return file.read().decode()
