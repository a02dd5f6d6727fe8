"""The entrance for programs that run the server for an application object."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from rgunicorn import _rgunicorn


class Arbiter:
    """The master under Gunicorn's name; only running it is public, and hooks get `rgunicorn._server.Server`."""

    #: The exit status of a worker that failed before it had booted.
    WORKER_BOOT_ERROR = 3
    #: The exit status of a worker that could not load its application.
    APP_LOAD_ERROR = 4

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cfg = app.cfg

    def run(self) -> NoReturn:
        """Serve, and exit with the server's status."""
        sys.exit(_rgunicorn._run_app(self.app))
