"""`gunicorn.config`."""

from rgunicorn.config import Config, Setting
