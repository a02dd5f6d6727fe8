"""PEP 3333 in all its corners: one path per corner. What a response cannot show is noted, and shown at `/notes`."""

import contextlib
import io
import json
import logging
import pathlib
import sys
import tempfile

from routes import Routes, parameter, plain

app = Routes()
notes = {}
TEXT = [("Content-Type", "text/plain")]


def note(key):
    """Count an event that the client cannot see."""
    notes[key] = notes.get(key, 0) + 1


@app.text("/notes")
def show_notes(environ):
    return json.dumps(notes)


class Closing:
    """An iterable that notes how often it is closed, and may fail on the way."""

    def __init__(self, key, items, fails=False):
        self.key, self.items, self.fails = key, iter(items), fails

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items, None)
        if item is not None:
            return item
        if self.fails:
            raise ValueError("iteration failed")
        raise StopIteration

    def close(self):
        note(f"closed {self.key}")


@app.text("/input")
def read_input(environ):
    """?do=EXPRESSION over `input`, blanks written as `_`: its repr is the answer."""
    expression = parameter(environ, "do").replace("_", " ")
    return repr(eval(expression, {"input": environ["wsgi.input"]}))


@app.text("/errors")
def write_errors(environ):
    stream = environ["wsgi.errors"]
    stream.write("written to errors\n")
    stream.writelines(["a line\n", "ünïcode\n"])
    stream.flush()
    print("printed to errors", file=stream)
    return "done"


@app.text("/errors-file")
def errors_as_a_file(environ):
    """What code asks a stream that it writes to."""
    stream = environ["wsgi.errors"]
    with contextlib.suppress(OSError):
        stream.fileno()
    facts = [stream.closed, stream.isatty(), stream.readable(), stream.seekable()]
    logging.StreamHandler(stream).emit(logging.makeLogRecord({"msg": "by a handler"}))
    return str(facts)


@app.route("/write")
def use_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"two ")
    return [b"three"]


@app.route("/generator")
def generator(environ, start_response):
    """start_response is called at the first `next`, not at the call."""
    note("generator started")
    start_response("200 OK", TEXT)
    yield b"a"
    yield b"b"


@app.route("/empty-first")
def empty_first(environ, start_response):
    """PEP 3333: header fields may be settled up to the first item that is not empty."""
    start_response("200 OK", TEXT)
    yield b""
    start_response("201 Created", TEXT, excuse())
    yield b"created"


def excuse():
    """An exc_info tuple."""
    try:
        raise LookupError("replaced")
    except LookupError:
        return sys.exc_info()


@app.route("/empty-list")
def empty_list(environ, start_response):
    start_response("200 OK", TEXT)
    return []


@app.route("/one-item")
def one_item(environ, start_response):
    """A list of one item without a length."""
    start_response("200 OK", TEXT)
    return [b"hello"]


@app.route("/tuple")
def tuple_result(environ, start_response):
    start_response("200 OK", TEXT)
    return (b"a", b"b")


@app.route("/getitem")
def getitem(environ, start_response):
    """An iterable of the old protocol: `__getitem__` and `__len__`, no `__iter__`."""

    class Old:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return [b"a", b"b"][index]

    start_response("200 OK", TEXT)
    return Old()


@app.route("/exc-info")
def exc_info_before(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-First", "1")])
    start_response("503 Service Unavailable", [*TEXT, ("X-Second", "1")], excuse())
    return [b"replaced"]


@app.route("/exc-info-late")
def exc_info_late(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    try:
        start_response("503 Service Unavailable", TEXT, excuse())
    except LookupError:
        note("reraised")
        raise


@app.route("/closing")
def closing(environ, start_response):
    """?key=K&fail=1: an iterable with close(), that may fail in the middle."""
    start_response("200 OK", TEXT)
    return Closing(parameter(environ, "key"), [b"a", b"b"], parameter(environ, "fail") == "1")


@app.route("/closing-unstarted")
def closing_unstarted(environ, start_response):
    """Never calls start_response; its iterable must be closed all the same."""
    return Closing("unstarted", [b"a"])


@app.route("/closing-big")
def closing_big(environ, start_response):
    """More than any socket buffer holds: the client goes away in the middle."""
    start_response("200 OK", TEXT)
    return Closing("big", (b"x" * 65536 for _ in range(1024)))


@app.route("/closing-leaves-a-file")
def closing_leaves_a_file(environ, start_response):
    """As `/closing-big`; close() is seen as a file, also after the server has left."""

    class Marking(Closing):
        def close(self):
            pathlib.Path("closed").touch()

    start_response("200 OK", TEXT)
    return Marking("file", (b"x" * 65536 for _ in range(1024)))


@app.route("/closing-raises")
def closing_raises(environ, start_response):
    """A close() that raises, after a whole response."""

    class Bad(list):
        def close(self):
            note("closed badly")
            raise ValueError("raised in close")

    return Bad(plain(start_response, "hello"))


@app.route("/bad")
def bad(environ, start_response):
    """?case=…: things that an application may not do."""
    case = parameter(environ, "case")
    if case == "twice":
        start_response("200 OK", TEXT)
    status, headers = {
        "twice": ("200 OK", TEXT),
        "bytes status": (b"200 OK", TEXT),
        "int status": (200, TEXT),
        "word status": ("OK", TEXT),
        "newline in status": ("200 O\r\nK", TEXT),
        "bytes name": ("200 OK", [(b"X-A", "v")]),
        "bytes value": ("200 OK", [("X-A", b"v")]),
        "int value": ("200 OK", [("X-A", 1)]),
        "newline in value": ("200 OK", [("X-A", "a\r\nX-B: b")]),
        "NUL in value": ("200 OK", [("X-A", "a\0b")]),
        "blank in name": ("200 OK", [("X A", "v")]),
        "empty name": ("200 OK", [("", "v")]),
        "colon in name": ("200 OK", [("X:A", "v")]),
        "str item": ("200 OK", TEXT),
        "bytearray item": ("200 OK", TEXT),
        "memoryview item": ("200 OK", TEXT),
        "negative length": ("200 OK", [*TEXT, ("Content-Length", "-5")]),
        "signed length": ("200 OK", [*TEXT, ("Content-Length", "+5")]),
        "length with underscore": ("200 OK", [*TEXT, ("Content-Length", "1_0")]),
        "word for a length": ("200 OK", [*TEXT, ("Content-Length", "five")]),
        "list of lengths": ("200 OK", [*TEXT, ("Content-Length", "5, 5")]),
        "two lengths": ("200 OK", [*TEXT, ("Content-Length", "5"), ("Content-Length", "6")]),
        "empty length": ("200 OK", [*TEXT, ("Content-Length", "")]),
        "length beyond 64 bits": ("200 OK", [*TEXT, ("Content-Length", str(1 << 64))]),
        "none": ("200 OK", TEXT),
        "unstarted": (None, None),
    }[case.replace("_", " ")]
    if status is not None:
        start_response(status, headers)
    results = {
        "str item": ["text"], "bytearray item": [bytearray(b"text")], "memoryview item": [memoryview(b"text")],
        "none": None,
    }  # fmt: skip
    return results.get(case.replace("_", " "), [b"hello"])


@app.route("/file")
def wrapped_file(environ, start_response):
    """?kind=real|memory|bare|fd&size=N&offset=N&length=N&block=N: a response through wsgi.file_wrapper."""
    number = {name: int(parameter(environ, name, "0")) for name in ("size", "offset", "length", "block")}
    data = bytes(index % 251 for index in range(number["size"]))
    kind = parameter(environ, "kind", "real")
    if kind == "real":
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
        file.write(data)
    else:
        file = io.BytesIO(data)
    file.seek(number["offset"])
    headers = [*TEXT, ("Content-Length", str(number["length"]))] if number["length"] else TEXT
    start_response("200 OK", headers)
    body = Reader(file) if kind == "bare" else Watched(file)
    block = [number["block"]] if number["block"] else []
    return environ["wsgi.file_wrapper"](body, *block)


class Reader:
    """The least that PEP 3333 asks of a file: read()."""

    def __init__(self, file):
        self.file = file

    def read(self, size):
        return self.file.read(size)


class Watched:
    """A file whose close is noted."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        note("file closed")
        self.file.close()


@app.route("/hints")
def hints(environ, start_response):
    send = environ["wsgi.early_hints"]
    send([("Link", "</a.css>; rel=preload")])
    send([(b"Link", b"</b.css>; rel=preload")])
    return plain(start_response, "hello")


class Unusual(BaseException):
    """No `Exception`."""


RAISED = {
    "OSError": OSError("raised"), "TimeoutError": TimeoutError("raised"), "BrokenPipeError": BrokenPipeError("raised"),
    "ConnectionResetError": ConnectionResetError("raised"), "Unusual": Unusual("raised"),
    "GeneratorExit": GeneratorExit("raised"), "SystemExit": SystemExit(3),
}  # fmt: skip


@app.route("/raises")
def raises(environ, start_response):
    """?what=NAME: an exception that servers like to have ideas about."""
    raise RAISED[parameter(environ, "what")]


@app.route("/raises-in-iteration")
def raises_in_iteration(environ, start_response):
    start_response("200 OK", TEXT)
    raise RAISED[parameter(environ, "what")]
    yield b""


@app.route("/stop-iteration")
def stop_iteration(environ, start_response):
    """StopIteration out of the call itself is an error like any other."""
    raise StopIteration


@app.route("/system-exit")
def system_exit(environ, start_response):
    raise SystemExit(3)


def not_even_a_function(environ):
    """Takes too few arguments: every request is a TypeError."""
