"""An agent that is put into a server as others are, before anything else is imported.

It wraps what they wrap of Gunicorn: the application that `gunicorn.app.base.Application.wsgi` returns, when that module
is imported. It notes each transaction, a line with its path, its status or exception, and whether it was closed.
"""

import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder

TARGET = "gunicorn.app.base"


class Counted:
    """The result of an application, up to its end."""

    def __init__(self, result, note):
        self.result, self.note = result, note

    def __iter__(self):
        return iter(self.result)

    def close(self):
        """End the transaction."""
        if hasattr(self.result, "close"):
            self.result.close()
        self.note("closed")


def counted(application):
    """Wrap an application."""

    def call(environ, start_response):
        words = [environ["PATH_INFO"]]

        def note(word):
            with open("transactions", "a") as file:
                file.write(" ".join([*words, word]) + "\n")

        def start(status, headers, exc_info=None):
            words.append(status.split()[0])
            return start_response(status, headers, exc_info)

        try:
            return Counted(application(environ, start), note)
        except Exception as error:
            note(type(error).__name__)
            raise

    return call


class Wrapping(Loader):
    """Loads the module, then wraps."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        """Leave it to the other one."""
        return self.loader.create_module(spec)

    def exec_module(self, module):
        """Run it, and wrap."""
        self.loader.exec_module(module)
        wsgi = module.Application.wsgi
        module.Application.wsgi = lambda self: counted(wsgi(self))


class Finder(MetaPathFinder):
    """Finds the module once, as if it were not there."""

    def find_spec(self, name, path, target=None):
        """Give its loader a wrapper."""
        if name != TARGET or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader = Wrapping(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
