"""`gunicorn.debug`."""

from rgunicorn.debug import Spew, spew, unspew
