"""rgunicorn: the pre-fork WSGI server that speaks Gunicorn's language, with an io_uring worker.

The server is the native module ``rgunicorn._rgunicorn``; this package holds what has to be Python: the console
script, the type stubs, and the few classes that a configuration file may name or subclass.
"""

from rgunicorn._rgunicorn import __version__

__all__ = ["__version__"]
