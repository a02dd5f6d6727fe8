"""Requests counted by the server and by the file."""

from hooklog import record

keepalive = 5


def pre_request(worker, req):
    record("pre_request", nr=worker.nr, number=req.req_number)


def post_request(worker, req, environ, resp):
    if worker.nr == 2:
        worker.nr = 100
    record("post_request", nr=worker.nr)
