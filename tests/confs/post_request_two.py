"""A hook after the request that takes two arguments."""

from hooklog import record


def post_request(worker, req):
    record("post_request", path=req.path)
