"""`gunicorn.util`."""

from rgunicorn.util import *  # noqa: F403
