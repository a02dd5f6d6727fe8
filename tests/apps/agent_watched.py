"""An application without a framework, which the agent of `agent_boot` watches: only the server can have it wrapped."""


class Lines:
    """An answer in parts."""

    def __iter__(self):
        return iter([b"one\n", b"two\n", b"three\n"])

    def close(self):
        """An iterable that has this is closed, whatever has wrapped it."""


def cut():
    yield b"begun"
    raise KeyError("cut")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/missing":
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    if path == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return [b"and returned"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/echo":
        return [environ["wsgi.input"].read()]
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return {"/lines": Lines, "/cut": cut}.get(path, lambda: [b"hello"])()
