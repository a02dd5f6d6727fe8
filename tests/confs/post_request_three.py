"""A hook after the request that takes three arguments."""

from hooklog import record


def post_request(worker, req, environ):
    record("post_request", path=req.path, query=environ["QUERY_STRING"])
