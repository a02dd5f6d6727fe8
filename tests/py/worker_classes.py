"""Worker classes that others have written for Gunicorn, and servers that run one."""

from typing import NamedTuple

import pytest
from harness import wait_for

# What they may take at QUIT, which uvicorn's does not heed.
GRACEFUL = ("--graceful-timeout", "5")
DERIVED = """
from gunicorn.workers.{module} import {base}

class Own({base}):
    def {method}(self, *args):
        self.log.info("own code serves")
        return super().{method}(*args)

worker_class = Own
"""


class Case(NamedTuple):
    """A worker class, and an application for it."""

    app: str
    #: The class by its name, or None: the configuration has it.
    name: str | None
    config: str = ""
    args: tuple[str, ...] = ()


CASES = {
    "uvicorn": Case("foreign_asgi:app", "uvicorn_worker.UvicornWorker"),
    "aiohttp": Case("foreign_aiohttp:app", "aiohttp.GunicornWebWorker"),
    "tornado": Case("foreign_tornado:app", "tornado"),
    "tornado-wsgi": Case("foreign_wsgi:app", "gunicorn.workers.gtornado.TornadoWorker"),
    "sync": Case("foreign_wsgi:app", None, DERIVED.format(module="sync", base="SyncWorker", method="handle_request")),
    "gthread": Case(
        "foreign_wsgi:app", None, DERIVED.format(module="gthread", base="ThreadWorker", method="handle_request"),
        ("--threads", "4"),
    ),
    "pywsgi": Case("foreign_wsgi:app", "gunicorn.workers.ggevent.GeventPyWSGIWorker"),
    "websocket": Case("foreign_socketio:app", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"),
}  # fmt: skip


def of(*names):
    """The parametrisation of a test by these classes."""
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


every_class = of(*CASES)


def start(launch, case, *args, config="", **options):
    """A server of this class, whose workers have booted."""
    named = () if case.name is None else ("-k", case.name)
    config = f"{case.config}\n{config}"
    # Uvicorn's end by the signal that they have heeded.
    options.setdefault("deaths", case.app.startswith("foreign_asgi"))
    server = launch(case.app, *named, *case.args, *GRACEFUL, *args, config=config, untyped=True, **options)
    wait_for("an answer", lambda: server.get("/pid").status == 200)
    return server


def answer(server):
    """The worker that answers."""
    response = server.get("/pid")
    assert response.status == 200
    return int(response.body)
