"""A hook after the request that takes four arguments."""

from hooklog import record


def post_request(worker, req, environ, resp):
    record("post_request", path=req.path, query=environ["QUERY_STRING"], status=resp.status, fields=len(resp.headers))
