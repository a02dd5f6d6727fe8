"""A WSGI application made of small handlers, one per path: `app = Routes()`, then `@app.route("/path")`."""

import os


class Routes:
    """Calls the WSGI application registered for PATH_INFO, answers 404 for any other path.

    Every such application tells at `/pid` which process it runs in.
    """

    def __init__(self):
        self._handlers = {}
        self.text("/pid")(lambda environ: str(os.getpid()))

    def route(self, path):
        """Register the decorated WSGI application under an exact path."""

        def register(handler):
            self._handlers[path] = handler
            return handler

        return register

    def text(self, path):
        """Register a function of environ whose result, str or bytes, is the whole body of a 200 answer."""

        def register(function):
            @self.route(path)
            def handler(environ, start_response):
                return plain(start_response, function(environ))

            return function

        return register

    def __call__(self, environ, start_response):
        handler = self._handlers.get(environ["PATH_INFO"])
        if handler is None:
            return plain(start_response, "no such path", status="404 Not Found")
        return handler(environ, start_response)


def plain(start_response, body, *, status="200 OK", headers=()):
    """Answer with one item of text and its Content-Length."""
    data = body.encode() if isinstance(body, str) else body
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(data))), *headers])
    return [data]


def parameter(environ, name, default=""):
    """One query parameter: the query is a plain `a=b&c=d` without escapes."""
    pairs = (pair.partition("=") for pair in environ["QUERY_STRING"].split("&"))
    return next((value for key, _, value in pairs if key == name), default)
