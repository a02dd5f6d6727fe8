"""A Flask application in two workers: templates, sessions, file upload, streaming, ranges, errors."""

import hashlib
from pathlib import Path

import pytest
from harness import APPS

UPLOAD_BYTES = 20_000_000


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("flask_app:app", "-w", "2")


@pytest.fixture
def url(server):
    return server.url


def test_template(session, url):
    response = session.get(url)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.text == "<!doctype html><title>a &lt; b</title><ul><li>één</li><li>two</li></ul>"


def test_session_is_shared_by_all_workers(session, url):
    assert session.get(f"{url}/me").text == "nobody"
    assert session.post(f"{url}/login", data={"user": "ann"}).text == "ann"
    for _ in range(20):
        assert session.get(f"{url}/me", headers={"Connection": "close"}).text == "ann"


@pytest.mark.parametrize("size", [0, 1000, UPLOAD_BYTES])
def test_upload(session, url, size):
    data = b"\r\n--x\0" * (size // 6)
    found = session.post(f"{url}/upload", files={"file": ("näme.bin", data)}, data={"note": "ünder"}).json()
    assert found == {"name": "näme.bin", "sha256": hashlib.sha256(data).hexdigest(), "note": "ünder"}


def test_stream(session, url):
    with session.get(f"{url}/stream?n=5000", stream=True) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert list(response.iter_lines()) == [b"%d" % number for number in range(5000)]


def test_send_file(session, url):
    text = Path(APPS / "flask_app.py").read_bytes()
    whole = session.get(f"{url}/source")
    assert whole.content == text
    part = session.get(f"{url}/source", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, text[10:20])
    assert session.get(f"{url}/source", headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert session.head(f"{url}/source").headers["Content-Length"] == str(len(text))


def test_error(server, session, url):
    assert session.get(f"{url}/fail").status_code == 500
    server.wait_log("LookupError: for the log")
    assert session.get(f"{url}/nothing").status_code == 404
