"""Small numbers for workers, that are used again: for ports, shards, file names."""

from hooklog import record

workers = 2


def on_starting(server):
    server._slots = {}


def pre_fork(server, worker):
    taken = set(server._slots.values())
    worker._slot = next(number for number in range(1, 100) if number not in taken)
    server._slots[worker.age] = worker._slot


def post_fork(server, worker):
    record("post_fork", slot=worker._slot, slots=sorted(server._slots.values()))
    worker.lost = "set in the worker"


def post_request(worker, req, environ, resp):
    record("post_request", slot=worker._slot, lost=worker.lost)


def child_exit(server, worker):
    record("child_exit", slot=server._slots.pop(worker.age), worker=worker.pid, lost=getattr(worker, "lost", None))
