"""A worker that has grown too large stops gracefully after its request."""

from hooklog import record


def too_large(path):
    """Stands for a look at the resident memory."""
    return path == "/health"


def post_request(worker, req, environ, resp):
    if too_large(req.path):
        worker.log.warning("worker %s is too large after %s requests", worker.pid, worker.nr)
        worker.alive = False
        record("stopped", nr=worker.nr)


def worker_exit(server, worker):
    record("worker_exit", alive=worker.alive)
