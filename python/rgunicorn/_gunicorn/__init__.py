"""`gunicorn`, as rgunicorn provides it."""

from rgunicorn import __version__

version_info = tuple(int(part) for part in __version__.split(".")[:3] if part.isdigit())
#: The value of the ``Server`` header; a configuration file may set it.
SERVER = "rgunicorn"
SERVER_SOFTWARE = f"rgunicorn/{__version__}"
