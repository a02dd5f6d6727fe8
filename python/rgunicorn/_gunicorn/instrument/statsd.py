"""`gunicorn.instrument.statsd`."""

from rgunicorn.instrument.statsd import *  # noqa: F403
from rgunicorn.instrument.statsd import Statsd  # noqa: F401
