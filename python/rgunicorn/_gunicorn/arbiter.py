"""`gunicorn.arbiter`."""

from rgunicorn.arbiter import Arbiter
from rgunicorn.errors import AppImportError, HaltServer
from rgunicorn.pidfile import Pidfile
