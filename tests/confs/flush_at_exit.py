"""Clients that buffer are flushed when a worker leaves, whatever its reason."""

import atexit

from hooklog import record

workers = 1
graceful_timeout = 5
buffered = []


def post_request(worker, req):
    buffered.append(req.path)


def post_worker_init(worker):
    atexit.register(record, "atexit")


def worker_exit(server, worker):
    record("flushed", paths=buffered, log=server.log is worker.log)
