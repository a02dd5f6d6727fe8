"""A Pyramid application: WebOb reads the environ and the input in its own way."""

import json

import pytest
from harness import APPS


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("pyramid_app:app")


def test_view(server):
    assert json.loads(server.get("/hello/w%C3%B6rld").body) == {"hello": "wörld", "seen": "127.0.0.1"}


@pytest.mark.parametrize("framing", ["body", "chunks"])
def test_json_body(server, framing):
    data = json.dumps(list(range(5000))).encode()
    options = {"body": data} if framing == "body" else {"chunks": [data[:7], data[7:]]}
    response = server.get("/add", method="POST", **options, headers={"Content-Type": "application/json"})
    assert json.loads(response.body) == {"sum": sum(range(5000))}


def test_file_iter(server):
    assert server.get("/stream").body == (APPS / "pyramid_app.py").read_bytes()


def test_exception_view(server):
    response = server.get("/fail")
    assert (response.status, json.loads(response.body)) == (418, {"error": "handled by a view"})
    assert server.get("/none").status == 404
