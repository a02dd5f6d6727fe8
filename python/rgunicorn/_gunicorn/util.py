"""`gunicorn.util`."""

from rgunicorn.util import *
