"""`gunicorn.app.base`."""

from rgunicorn.app.base import Application, BaseApplication
