"""Threads of a worker that is told to leave at once."""

import sys
import threading
import traceback

from hooklog import record


def post_worker_init(worker):
    threading.Thread(target=threading.Event().wait, name="housekeeping", daemon=True).start()


def worker_int(worker):
    worker.log.info("worker received INT or QUIT signal")
    id2name = {th.ident: th.name for th in threading.enumerate()}
    frames = {id2name.get(ident, ""): traceback.format_stack(frame) for ident, frame in sys._current_frames().items()}
    record("worker_int", names=sorted(frames), main=threading.current_thread() is threading.main_thread())
    worker.log.debug("\n".join(line for stack in frames.values() for line in stack))
