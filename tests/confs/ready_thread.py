"""A scheduler and a metrics server live in the master."""

import threading
import time

from hooklog import record

stop = threading.Event()


def schedule(server):
    """Tick until told to stop; workers never have this thread."""
    while not stop.wait(0.05):
        record("tick", workers=len(server.WORKERS), at=time.time())


def when_ready(server):
    threading.Thread(target=schedule, args=(server,), name="scheduler", daemon=True).start()


def post_fork(server, worker):
    record("post_fork", threads=[thread.name for thread in threading.enumerate()])


def on_exit(server):
    stop.set()
    record("on_exit")
