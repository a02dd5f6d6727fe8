"""`gunicorn.app.wsgiapp`, with what Gunicorn's module imports."""

from rgunicorn import util
from rgunicorn.app.base import Application
from rgunicorn.app.wsgiapp import WSGIApplication, run
from rgunicorn.errors import ConfigError
