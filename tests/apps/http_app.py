"""What the HTTP tests ask for: the environ as JSON, the body back, and responses of every framing."""

import json

from routes import Routes, parameter, plain

app = Routes()


@app.text("/")
def hello(environ):
    return "hello"


@app.text("/environ")
def show_environ(environ):
    """Every key: text as it is, the rest as its type and repr."""
    environ["wsgi.input"].read()
    shown = {
        key: value if isinstance(value, str) else [type(value).__name__, repr(value)] for key, value in environ.items()
    }
    return json.dumps(shown)


@app.text("/echo")
def echo(environ):
    return environ["wsgi.input"].read()


@app.text("/length")
def length(environ):
    return str(len(environ["wsgi.input"].read()))


@app.text("/unread")
def unread(environ):
    return "body ignored"


@app.text("/caught")
def caught(environ):
    """Reads a body that may be malformed and says what was raised."""
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        return type(error).__name__
    return "nothing raised"


@app.route("/items")
def items(environ, start_response):
    """Three items and an empty one, without a length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"one", b"", b"two", b"three"])


@app.route("/status")
def status(environ, start_response):
    """?line=204_No_Content&length=5: a status with a body that it may not allow."""
    headers = [("Content-Type", "text/plain")]
    if size := parameter(environ, "length"):
        headers.append(("Content-Length", size))
    start_response(parameter(environ, "line").replace("_", " "), headers)
    return [b"hello"]


@app.route("/headers")
def headers(environ, start_response):
    """The header fields that the request carries as a JSON list in its body."""
    fields = [tuple(pair) for pair in json.loads(environ["wsgi.input"].read())]
    start_response("200 OK", fields)
    return [b"hello"]


@app.route("/short")
def short(environ, start_response):
    """Promises ten bytes, gives five."""
    start_response("200 OK", [("Content-Length", "10")])
    return [b"hello"]


@app.route("/long")
def long(environ, start_response):
    """Promises five bytes, gives eleven."""
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello", b" world"]


@app.route("/raise")
def raise_before(environ, start_response):
    raise ValueError("raised before start_response")


@app.route("/raise-late")
def raise_late(environ, start_response):
    """Raises when bytes are on their way."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    raise ValueError("raised after the first item")


def show_every_environ(environ, start_response):
    """As `/environ`, for any path; leaves a mark in a dictionary that nobody may see again."""
    answer = plain(start_response, show_environ(environ))
    environ["left.behind"] = True
    return answer
