"""Things kept on the server object, and its number of workers decided late."""

import time

from hooklog import record


def on_starting(server):
    server.started_at = time.time()
    server.providers = {"flags": object()}


def when_ready(server):
    server.num_workers = 2
    server.ready = True


def nworkers_changed(server, new_value, old_value):
    record("nworkers_changed", new=new_value, old=old_value, known=hasattr(server, "started_at"))


def post_fork(server, worker):
    record("post_fork", ready=server.ready, providers=list(server.providers), age=time.time() - server.started_at)


def on_exit(server):
    record("on_exit", ready=server.ready)
