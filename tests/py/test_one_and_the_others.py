"""One hostile client does not stop the others: judged by what they get meanwhile, not by how long it takes."""

import threading

import pytest
from rawhttp import Client, request

TINY = b"1\r\nx\r\n"
CHUNKS = 2_000_000
# Answers to others while the hostile request is being received: a few for each megabyte of it.
ANSWERS_MIN = 30


class Uploader(threading.Thread):
    """Sends one request with very many chunks of one byte as fast as it can."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.client = Client(address, timeout=60)
        self.answer = None

    def run(self):
        self.client.send(request("/upload", method="POST", headers={"Transfer-Encoding": "chunked"}))
        block = TINY * 10_000
        for _ in range(CHUNKS // 10_000):
            self.client.send(block)
        self.client.send(b"0\r\n\r\n")
        self.answer = self.client.response()
        self.client.close()


@pytest.mark.own(reason="Gunicorn's workers with threads receive each in its own")
@pytest.mark.one_driver
def test_chunks_of_one_byte_hold_nobody_up(launch):
    server = launch("faults:app")
    uploader = Uploader(server.address)
    answers = 0
    with server.client() as client:
        uploader.start()
        while uploader.is_alive():
            assert client.get("/pid").status == 200
            answers += 1
        uploader.join()
    assert uploader.answer is not None
    assert uploader.answer.body == str(CHUNKS).encode()
    assert answers >= ANSWERS_MIN


@pytest.mark.own(reason="Gunicorn reads them all")
def test_chunk_extensions_without_end_are_refused(launch):
    """A kilobyte of extension for each byte of data."""
    server = launch("faults:app")
    with server.client() as client:
        client.send(request("/upload", method="POST", headers={"Transfer-Encoding": "chunked"}))
        chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
        try:
            for _ in range(1_000):
                client.send(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert client.rest().startswith(b"HTTP/1.1 400 ")
