"""The part of `--reload` that is Python: the files that are loaded, and what answers for an application that is not."""

from __future__ import annotations

import glob
import os
import sys

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


# Where the server was started, whatever directory it changes to later: extra files are relative to it.
_START = os.getcwd()


def _matching(entry: str) -> list[str]:
    return glob.glob(os.path.join(_START, entry), recursive=True)


def files(extra: Iterable[str]) -> list[str]:
    """List the source files of all loaded modules, and the extra files, patterns among them expanded."""
    found = set()
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name:
            found.add(name[:-1] if name.endswith((".pyc", ".pyo")) else name)
    for entry in extra:
        found.update(_matching(entry) if glob.has_magic(entry) else [os.path.join(_START, entry)])
    return sorted(found)


def missing(extra: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return, of extra files, the paths that do not exist and the patterns that match nothing."""
    patterns = [entry for entry in extra if glob.has_magic(entry)]
    paths = [entry for entry in extra if not glob.has_magic(entry)]
    return (
        [path for path in paths if not os.path.exists(os.path.join(_START, path))],
        [pattern for pattern in patterns if not _matching(pattern)],
    )


def error_app(text: str) -> WSGIApplication:
    """Make an application that answers every request with this text and the status 500."""
    body = text.encode("utf-8", "replace")

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]

    return application
