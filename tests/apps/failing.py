"""Answers that cannot be taken for each other: each holds the token of its request, in a header and in every part."""

import os
import zlib

from routes import Routes, parameter, plain

app = Routes()

ITEMS = 8


def token(environ):
    return parameter(environ, "t")


@app.route("/echo")
def echo(environ, start_response):
    return plain(start_response, f"{token(environ)};" * 20, headers=[("X-Token", token(environ))])


@app.route("/big")
def big(environ, start_response):
    """Head and body leave together, without being put together."""
    return plain(start_response, f"{token(environ)};" * 5000, headers=[("X-Token", token(environ))])


@app.route("/upload")
def upload(environ, start_response):
    """Longer than what stays in memory: the server has put it into a file."""
    data = environ["wsgi.input"].read()
    text = f"{token(environ)}:{len(data)}:{zlib.crc32(data)}"
    return plain(start_response, text, headers=[("X-Token", token(environ))])


@app.route("/file")
def file(environ, start_response):
    """Leaves by sendfile(2)."""
    path = f"{token(environ)}.data"
    start_response("200 OK", [("X-Token", token(environ)), ("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))


@app.route("/stream")
def stream(environ, start_response):
    start_response("200 OK", [("X-Token", token(environ))])
    return (f"{token(environ)}-{index};".encode() * 500 for index in range(ITEMS))
