"""Every hook, and a note of each call: who was called, with what."""

from hooklog import record

record("config")


def on_starting(server):
    record("on_starting", server=server.pid, listeners=len(server.LISTENERS))


def on_reload(server):
    record("on_reload", server=server.pid)


def when_ready(server):
    record("when_ready", server=server.pid, listeners=len(server.LISTENERS), workers=len(server.WORKERS))


def pre_fork(server, worker):
    record("pre_fork", age=worker.age, worker=worker.pid, known=sorted(server.WORKERS))


def post_fork(server, worker):
    record("post_fork", age=worker.age, worker=worker.pid, booted=worker.booted, loaded=server.app.callable is not None)


def post_worker_init(worker):
    record("post_worker_init", age=worker.age, booted=worker.booted, loaded=worker.app.callable is not None)


def worker_int(worker):
    record("worker_int", age=worker.age, alive=worker.alive)


def worker_abort(worker):
    record("worker_abort", age=worker.age, alive=worker.alive)


def pre_exec(server):
    record("pre_exec", server=server.pid, reexec_pid=server.reexec_pid)


def pre_request(worker, req):
    record("pre_request", age=worker.age, method=req.method, path=req.path, nr=worker.nr)


def post_request(worker, req, environ, resp):
    status = None if resp is None else resp.status
    record("post_request", age=worker.age, path=req.path, nr=worker.nr, status=status, environ=len(environ) > 0)


def child_exit(server, worker):
    record("child_exit", age=worker.age, worker=worker.pid, known=worker.pid in server.WORKERS, aborted=worker.aborted)


def worker_exit(server, worker):
    record("worker_exit", age=worker.age, worker=worker.pid, server=server.pid)


def nworkers_changed(server, new_value, old_value):
    record("nworkers_changed", new=new_value, old=old_value)


def on_exit(server):
    record("on_exit", workers=len(server.WORKERS), listeners=len(server.LISTENERS))
