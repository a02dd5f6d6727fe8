"""Another limit for each worker."""

from hooklog import record


def post_worker_init(worker):
    worker.max_requests = 2 + worker.age
    record("post_worker_init", limit=worker.max_requests)


def post_request(worker, req, environ, resp):
    record("post_request", nr=worker.nr, alive=worker.alive, closes=resp.should_close())
