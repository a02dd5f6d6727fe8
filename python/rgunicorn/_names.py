"""Modules under Gunicorn's import names that answer for themselves, and names that can only be imported.

`provide` makes a package of ours known as `gunicorn`. Each of its modules is a `Names`, which says whose it is where a
name is missing. What programs import to name it, and cannot use here, refuses when it is called (`refuse`), and
warns when it is replaced.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from abc import ABCMeta
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from opcode import opmap
from types import ModuleType

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import FrameType
    from typing import Any, NoReturn

_PAGE = "gunicorn-differences.md, Import names"
#: Names that the server reads again when it has read its configuration.
_READ = {"SERVER", "SERVER_SOFTWARE"}
#: Why a module is not offered, and what to do instead, where there is more to say than that.
_INSTEAD = {
    "gunicorn.asgi": "rgunicorn serves WSGI applications only.",
    "gunicorn.workers.gasgi": "rgunicorn serves WSGI applications only.",
    "gunicorn.ctl": "rgunicorn has no control socket: send signals to the master.",
    "gunicorn.dirty": "rgunicorn has no dirty workers.",
    "gunicorn.http2": "rgunicorn speaks HTTP/1.1: put a proxy in front.",
    "gunicorn.uwsgi": "rgunicorn speaks HTTP/1.1: put a proxy in front.",
    "gunicorn.workers.geventlet": "Gunicorn has given it up as well: use the worker gevent.",
    "gunicorn.six": "Gunicorn has given it up as well: Python 3 has what it was for.",
    "gunicorn._compat": "Gunicorn has given it up as well: Python 3 has what it was for.",
}
#: What to do instead of replacing a name.
_SETTINGS = {
    "gunicorn.http.wsgi.Response": "To change the Server header, set gunicorn.SERVER.",
    "gunicorn.http.wsgi.Response.default_headers": "To change the Server header, set gunicorn.SERVER.",
    "gunicorn.http.message.MAX_REQUEST_LINE": "Use the setting limit_request_line.",
    "gunicorn.http.message.MAX_HEADERS": "Use the setting limit_request_fields.",
    "gunicorn.http.message.DEFAULT_MAX_HEADERFIELD_SIZE": "Use the setting limit_request_field_size.",
    "gunicorn.util._setproctitle": "Use the setting proc_name.",
    "gunicorn.glogging.Logger": "Use the setting logger_class.",
}
_ELSE = "Do without it, or run this program under Gunicorn"


def not_offered(name: str) -> str:
    """Return the message for a dotted name that is not there."""
    for start in (name, name.rpartition(".")[0], ".".join(name.split(".")[:2])):
        if start in _INSTEAD:
            return f"'gunicorn' is rgunicorn's package here, which does not offer {name!r}. {_INSTEAD[start]}"
    return f"'gunicorn' is rgunicorn's package here, which does not offer {name!r}. {_ELSE} ({_PAGE})."


def refuse(name: str, instead: str = f"{_ELSE}.") -> NoReturn:
    """Refuse to do what a name does in Gunicorn, by a `NotImplementedError`."""
    raise NotImplementedError(f"{name} is only a name under rgunicorn, whose server is native. {instead}")


def _replaced(name: str) -> None:
    """Warn that a name was replaced in vain; the caller's caller did it."""
    instead = _SETTINGS.get(name, f"See {_PAGE}.")
    message = f"Replacing {name} has no effect: rgunicorn's server does not use it. {instead}"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


class Names(ModuleType):
    """A module under Gunicorn's name."""

    def __getattr__(self, name: str) -> Any:
        """Import a module of this package, as Gunicorn has done by itself; without one, say whose package this is.

        That is an `AttributeError`, or an `ImportError` of ``from``.
        """
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if "__path__" in self.__dict__ and importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        message = not_offered(f"{self.__name__}.{name}")
        frame = sys._getframe(1)
        # There the interpreter would put a text of its own in the place of an AttributeError's.
        if frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]:
            raise ImportError(message, name=self.__name__, path=self.__file__)
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; replacing one that is there has no effect on the server, which is worth a warning."""
        known = self.__dict__.get(name, value)
        # The import system sets a package's modules, and attributes with underscores.
        set_by_import = isinstance(value, ModuleType) or name.startswith("__")
        if known is not value and name not in _READ and not set_by_import:
            _replaced(f"{self.__name__}.{name}")
        super().__setattr__(name, value)


class Unused(ABCMeta):
    """The type of classes that the server makes objects of, and whose methods it does not call.

    It is that of abstract classes, too, so that programs may inherit from both.
    """

    #: The class's dotted name in Gunicorn, or what stands for it in messages.
    known_as: str

    def __setattr__(cls, name: str, value: Any) -> None:
        """Set an attribute; one that is there already is replaced in vain, which is worth a warning."""
        # Not those that others have derived: theirs may run.
        if not name.startswith("_") and hasattr(cls, name) and cls.__module__.startswith("rgunicorn."):
            _replaced(f"{cls.known_as}.{name}")
        super().__setattr__(name, value)


def unused(name: str, instead: str) -> Callable[..., NoReturn]:
    """Return a function that refuses: a method that the server has no use for."""

    def refuses(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(name, instead)

    return refuses


class Loader(SourceFileLoader):
    """A loader of `Names`."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the module, empty."""
        return Names(spec.name)


class Finder(FileFinder):
    """A finder of the modules in one of the package's folders, which Python's own finder of paths asks."""

    def __init__(self, path: str) -> None:
        super().__init__(path, (Loader, SOURCE_SUFFIXES))

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module. Raises `ModuleNotFoundError` for one that is not there, where it is imported."""
        found = super().find_spec(fullname, target)
        if found is None and fullname.startswith("gunicorn.") and _is_import(sys._getframe(1)):
            raise ModuleNotFoundError(not_offered(fullname), name=fullname)
        return found


def _is_import(frame: FrameType | None) -> bool:
    """Return whether a finder is called to import, and not to answer `importlib.util.find_spec`."""
    while frame is not None and "importlib" in frame.f_code.co_filename:
        if frame.f_code.co_name == "_find_and_load":
            return True
        frame = frame.f_back
    return False


def provide(home: str) -> ModuleType:
    """Make ``gunicorn`` the package whose folder this is; returns it."""

    def finder(path: str) -> Finder:
        if path != home and not path.startswith(os.path.join(home, "")):
            raise ImportError(f"{path!r} is no folder of the package", path=path)
        return Finder(path)

    sys.path_hooks.insert(0, finder)
    file = os.path.join(home, "__init__.py")
    loader = Loader("gunicorn", file)
    spec = importlib.util.spec_from_file_location("gunicorn", file, loader=loader, submodule_search_locations=[home])
    if spec is None:
        raise ImportError("rgunicorn's own files are missing: install it again")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gunicorn"] = module
    loader.exec_module(module)
    return module
