"""What an application keeps beyond its request, and what it calls at the wrong time or from the wrong thread."""

import gzip
import io
import threading
import time

from routes import Routes, parameter, plain

app = Routes()
kept = {}
TEXT = [("Content-Type", "text/plain")]


def attempt(function, *args):
    """The name of the exception that a call raises, or what it returns."""
    try:
        return repr(function(*args))
    except BaseException as error:
        return type(error).__name__


@app.route("/keep")
def keep(environ, start_response):
    """Keeps everything, and answers in chunks."""
    kept.update(
        environ=environ,
        start_response=start_response,
        write=start_response("200 OK", TEXT),
        hints=environ["wsgi.early_hints"],
        socket=environ["gunicorn.socket"],
        input=environ["wsgi.input"],
    )
    yield b"kept"


@app.route("/use")
def use(environ, start_response):
    """Uses what an earlier request has left, before and after a response of its own begins."""
    assert kept["start_response"] is not start_response
    assert kept["environ"] is not environ
    tried = [
        attempt(kept["write"], b"late"),
        attempt(kept["hints"], [("Link", "</late>")]),
        attempt(kept["start_response"], "201 Late", []),
        attempt(lambda: kept["socket"].fileno()),
        attempt(kept["input"].read),
    ]
    return plain(start_response, ",".join(tried))


class LateWriter:
    """Calls write() from close(), when the response is complete."""

    def __init__(self, write):
        self.write, self.items = write, iter([b"in time"])

    def __iter__(self):
        return self.items

    def close(self):
        kept["in close"] = attempt(self.write, b"late")


@app.route("/write-in-close")
def write_in_close(environ, start_response):
    return LateWriter(start_response("200 OK", TEXT))


@app.text("/in-close")
def in_close(environ):
    return kept["in close"]


@app.route("/late-hints")
def late_hints(environ, start_response):
    """Hints between two parts of the body, from an iterator and after write()."""
    hints = environ["wsgi.early_hints"]
    write = start_response("200 OK", TEXT)
    hints([("Link", "</early>")])
    write(b"one ")
    hints([("Link", "</late>")])
    yield b"two "
    hints([("Link", "</later>")])
    yield b"three"


@app.route("/list-headers")
def list_headers(environ, start_response):
    """Fields as lists, as a generator, and changed afterwards."""
    headers = [["Content-Length", "2"], ["X-List", "1"]]
    start_response("200 OK", (field for field in headers))
    headers[0][1] = "1000"
    return [b"ok"]


@app.route("/bad-pair")
def bad_pair(environ, start_response):
    start_response("200 OK", [{"0": ("a",), "1": ("a", "b", "c"), "2": 5}[parameter(environ, "case")]])
    return [b""]


@app.text("/other-thread")
def other_thread(environ):
    """What another thread may do: read, but not send."""
    found = []

    def work():
        found.append(attempt(environ["wsgi.input"].read))
        found.append(attempt(environ["wsgi.early_hints"], [("Link", "</a>")]))
        found.append(attempt(lambda: environ["gunicorn.socket"].fileno()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return ",".join(found)


@app.route("/write-for-ever")
def write_for_ever(environ, start_response):
    """Goes on until write() says that there is nobody."""
    write = start_response("200 OK", TEXT)
    try:
        while True:
            write(b"x")
            time.sleep(0.001)
    except OSError as error:
        kept["write failed"] = type(error).__name__
        raise


@app.text("/write-failed")
def write_failed(environ):
    return kept.get("write failed", "")


@app.route("/compressed")
def compressed(environ, start_response):
    """A file whose descriptor leads to other bytes than its read()."""
    with gzip.open("text.gz", "wb") as file:
        file.write(b"plain text" * 1000)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](gzip.open("text.gz"))


class Passing:
    """Passes everything on to a file, and notes at the end how far that has been read: sendfile(2) leaves it alone."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        kept[f"position {self.kind}"] = self.file.tell()
        self.file.close()


class Shouting(Passing):
    """Has a `read` of its own."""

    def read(self, size=-1):
        return self.file.read(size).upper()


class ShoutingFile(io.FileIO):
    """The same, as a subclass."""

    def read(self, size=-1):
        return super().read(size).upper()


class ShoutingRaw(io.FileIO):
    """The same, for a buffered file over it."""

    def readinto(self, buffer):
        with memoryview(buffer) as view:
            data = super().read(len(view)).upper()
            view[: len(data)] = data
        return len(data)


def shouting_instance(path):
    """The same, as an attribute of one object."""
    file = Passing(open(path, "rb"))  # noqa: SIM115 - the server closes it
    file.read = lambda size=-1: file.file.read(size).upper()
    return file


FILES = {
    "plain": lambda path: Passing(open(path, "rb")),
    "raw": lambda path: Passing(open(path, "rb", buffering=0)),
    "writable": lambda path: Passing(open(path, "rb+")),
    "shouting": lambda path: Shouting(open(path, "rb")),
    "subclass": lambda path: Passing(ShoutingFile(path)),
    "buffered": lambda path: Passing(io.BufferedReader(ShoutingRaw(path))),
    "instance": shouting_instance,
}


@app.route("/wrapped")
def wrapped(environ, start_response):
    """?kind=K: a file object of some kind."""
    with open("wrapped.txt", "wb") as file:
        file.write(b"plain text" * 1000)
    start_response("200 OK", [*TEXT, ("Content-Length", "10000")])
    kind = parameter(environ, "kind")
    file = FILES[kind]("wrapped.txt")
    file.kind = kind
    return environ["wsgi.file_wrapper"](file)


@app.text("/position")
def position(environ):
    """?kind=K: how far the last such file was read; -1: the response is not over."""
    return str(kept.pop(f"position {parameter(environ, 'kind')}", -1))


@app.route("/proc")
def proc(environ, start_response):
    """A regular file whose size is said to be zero."""
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.open("/proc/self/status", "rb"))


@app.text("/lines")
def lines(environ):
    """?size=N: the body in pieces of at most N bytes by readline(), then what iteration gives of the rest."""
    size = int(parameter(environ, "size"))
    body = environ["wsgi.input"]
    pieces = [body.readline(size) for _ in range(1000)]
    pieces.append(body.read(5))
    pieces.extend(body)
    assert body.read() == body.readline() == b""
    assert all(len(piece) <= size for piece in pieces[:1000])
    return b"".join(pieces)
