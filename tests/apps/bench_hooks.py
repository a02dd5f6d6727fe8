"""A configuration of the benches: something to do before and after each request."""


def pre_request(worker, req):
    req.begun = req.path


def post_request(worker, req, environ, resp):
    worker.answered = (req.begun, resp.status)
