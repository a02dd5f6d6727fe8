"""`gunicorn.arbiter`."""

from rgunicorn.arbiter import Arbiter  # noqa: F401
