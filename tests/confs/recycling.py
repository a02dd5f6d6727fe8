"""Workers that leave before their memory grows too much, not all at once."""

from hooklog import record

workers = 1
max_requests = 3
max_requests_jitter = 2


def post_fork(server, worker):
    record("post_fork", limit=worker.max_requests)


def worker_exit(server, worker):
    record("worker_exit", nr=worker.nr)
