"""`gunicorn.app.pasterapp`, with what Gunicorn's module imports."""

from rgunicorn.app.pasterapp import get_wsgi_app, has_logging_config, serve
from rgunicorn.app.wsgiapp import WSGIApplication
from rgunicorn.config import get_default_config_file
