"""Suites of others that start their server in the test's own process: they run inside of a worker of this one.

    rgunicorn -c python:foreign_guest ... foreign_guest:app        as ci/foreign_suites.py starts it

Such a suite shares objects between tests and applications. So its tests run in the worker, in a greenlet or in a thread
beside the requests, and speak to the worker's own listener over sockets; the server that a test would start is an
object that says which application is in its turn (ci/foreign_plugin.py).
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

application: Callable[..., Any] | None = None
"""The application of the test that runs."""

graceful_timeout = 1
timeout = 0


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Call the application of the test."""
    assert application is not None, "a request, and no test runs"
    return application(environ, start_response)


def served(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Call the application that the environment names, with a variable that waitress always sets."""
    module, _, name = os.environ["FOREIGN_APPLICATION"].partition(":")
    environ["REMOTE_HOST"] = environ["REMOTE_ADDR"]
    return getattr(importlib.import_module(module), name)(environ, start_response)


def post_worker_init(worker: Any) -> None:
    """Start the tests beside the requests. They have one worker: if that has ended, the server ends."""
    if worker.age > 1:
        os.kill(os.getppid(), signal.SIGTERM)
        return
    if os.environ["FOREIGN_SUITE"] == "pywsgi":
        from gevent import spawn

        worker.guest = spawn(run_tests)
    else:
        worker.guest = threading.Thread(target=run_tests, daemon=True)
        worker.guest.start()


def run_tests() -> None:
    """Run the suite that the environment names, then end the server."""
    import pytest

    try:
        pytest.main(os.environ["FOREIGN_ARGUMENTS"].split("\n"))
    finally:
        os.kill(os.getppid(), signal.SIGTERM)
