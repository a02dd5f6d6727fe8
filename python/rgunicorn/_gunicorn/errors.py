"""`gunicorn.errors`."""

from rgunicorn.errors import AppImportError, ConfigError, HaltServer
