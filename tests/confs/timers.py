"""Slow requests, measured between the two hooks of a request."""

import time

from hooklog import record


def post_worker_init(worker):
    worker.started_requests = {}
    worker.seen = 0


def pre_request(worker, req):
    req._start = time.monotonic()
    worker.started_requests[id(req)] = req._start
    worker.seen += 1
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker, req, environ, resp):
    same = worker.started_requests.pop(id(req)) == req._start
    took = time.monotonic() - req._start
    if took > 0.2:
        worker.log.warning("slow request: %s %s took %.3f s", req.method, req.uri, took)
    record("timed", path=req.path, status=resp.status, same=same, seen=worker.seen, left=len(worker.started_requests))
