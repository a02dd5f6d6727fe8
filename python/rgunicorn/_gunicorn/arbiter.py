"""`gunicorn.arbiter`."""

from rgunicorn.arbiter import Arbiter
