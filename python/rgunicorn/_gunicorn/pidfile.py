"""`gunicorn.pidfile`."""

from rgunicorn.pidfile import Pidfile
