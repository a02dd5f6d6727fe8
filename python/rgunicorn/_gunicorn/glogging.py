"""`gunicorn.glogging`."""

from rgunicorn.glogging import *  # noqa: F403
from rgunicorn.glogging import CONFIG_DEFAULTS, Logger, SafeAtoms, loggers, parse_syslog_address  # noqa: F401
