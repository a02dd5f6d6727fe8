"""Gunicorn's import names, for configuration files and programs that say ``from gunicorn.glogging import Logger``.

Importing this module makes ``import gunicorn`` give rgunicorn's classes, for this process; the server does so in its
own processes before it reads a configuration. A real Gunicorn that is installed is left alone everywhere else, and
stays what it is in a process that had imported it before.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from rgunicorn import __version__

_HOME = os.path.join(os.path.dirname(__file__), "_gunicorn")


def install() -> None:
    """Make ``gunicorn`` importable as a name of rgunicorn's; harmless if it is done twice."""
    found = sys.modules.get("gunicorn")
    if found is not None:
        return
    spec = importlib.util.spec_from_file_location(
        "gunicorn", os.path.join(_HOME, "__init__.py"), submodule_search_locations=[_HOME]
    )
    if spec is None or spec.loader is None:
        raise ImportError("rgunicorn's own files are missing: install it again")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gunicorn"] = module
    spec.loader.exec_module(module)


def names() -> tuple[str, str]:
    """Return `SERVER` and `SERVER_SOFTWARE`, as a configuration file may have set them."""
    # The package that `install` has made, or that was there before.
    import gunicorn  # type: ignore[import-untyped]  # noqa: PLC0415

    if getattr(gunicorn, "__file__", None) != os.path.join(_HOME, "__init__.py"):
        # The real one, which was there first.
        return ("rgunicorn", f"rgunicorn/{__version__}")
    return (str(gunicorn.SERVER), str(gunicorn.SERVER_SOFTWARE))


install()
