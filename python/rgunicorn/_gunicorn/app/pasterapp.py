"""`gunicorn.app.pasterapp`."""

from rgunicorn.app.pasterapp import get_wsgi_app
