"""`gunicorn.instrument.statsd`."""

from rgunicorn.instrument.statsd import *
from rgunicorn.instrument.statsd import Statsd
