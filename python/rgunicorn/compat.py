"""Gunicorn's import names, for configuration files and programs that say ``from gunicorn.glogging import Logger``.

Importing this module makes ``import gunicorn`` give rgunicorn's classes, for this process; the server does so in its
own processes before it reads a configuration. A real Gunicorn that is installed is left alone everywhere else, and
stays what it is in a process that had imported it before.
"""

from __future__ import annotations

import os
import sys

from rgunicorn import _names
from rgunicorn._names import Names

_HOME = os.path.join(os.path.dirname(__file__), "_gunicorn")
#: The version of Gunicorn whose behaviour, and whose import names, this release follows.
FOLLOWED = "27.0.1"
#: What programs look for to tell the server that they run under: `SERVER_SOFTWARE` begins with Gunicorn's name.
SERVER, SERVER_SOFTWARE = "rgunicorn", f"gunicorn/{FOLLOWED}"


def install() -> None:
    """Make ``gunicorn`` importable as a name of rgunicorn's; harmless if it is done twice."""
    if "gunicorn" not in sys.modules:
        provide()


def provide() -> None:
    """Make ``gunicorn`` a name of rgunicorn's, whatever it is at present."""
    _names.provide(_HOME)


def _in_force(name: str, default: str) -> str:
    """Return what a name was set to where Gunicorn reads it, in `gunicorn.http.wsgi`, or in `gunicorn`."""
    if isinstance(sys.modules.get("gunicorn"), Names):
        for module in ("gunicorn.http.wsgi", "gunicorn"):
            value = str(getattr(sys.modules.get(module), name, default))
            if value != default:
                return value
    return default


def names() -> tuple[str, str]:
    """Return `SERVER` and `SERVER_SOFTWARE`, as a configuration file may have set them."""
    return (_in_force("SERVER", SERVER), _in_force("SERVER_SOFTWARE", SERVER_SOFTWARE))


install()
