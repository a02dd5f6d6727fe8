"""The distribution `rgunicorn-as-gunicorn`, whose package `gunicorn` is this one's (``stand-in/``).

It has the name and the folder of the real one. Where pip could not keep them apart, both have left files there.
"""

from __future__ import annotations

import os
import sys

from rgunicorn import __version__, compat

NAME = "rgunicorn-as-gunicorn"
#: A file that the real package has.
_REAL = "arbiter.py"


def take_over(file: str) -> None:
    """Make `gunicorn` rgunicorn's package, while the stand-in's file is being imported."""
    if os.path.exists(os.path.join(os.path.dirname(file), _REAL)):
        print(_both("rgunicorn's"), file=sys.stderr)
    compat.provide()


def complaint() -> str | None:
    """Return what is wrong where the real package lies upon the stand-in; None if nothing is."""
    site = os.path.dirname(os.path.dirname(__file__))
    if os.path.isdir(os.path.join(site, f"{NAME.replace('-', '_')}-{__version__}.dist-info")):
        try:
            with open(os.path.join(site, "gunicorn", "__init__.py"), encoding="utf-8", errors="replace") as file:
                # Where it is the stand-in's, that says so itself when it is imported.
                return None if "_stand_in" in file.read() else _both("Gunicorn's own")
        except OSError:
            pass
    return None


def _both(whose: str) -> str:
    return (
        f"gunicorn and {NAME} are both installed, in one folder: programs that import or start gunicorn get {whose}. "
        f"Uninstall both (pip uninstall gunicorn {NAME}) and install the one that you want."
    )
