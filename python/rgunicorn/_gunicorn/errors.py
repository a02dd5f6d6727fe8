"""`gunicorn.errors`."""

from rgunicorn.errors import AppImportError, ConfigError, HaltServer  # noqa: F401
