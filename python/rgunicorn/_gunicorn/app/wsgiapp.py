"""`gunicorn.app.wsgiapp`."""

from rgunicorn.app.wsgiapp import WSGIApplication, run
