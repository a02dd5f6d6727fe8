"""`gunicorn.glogging`."""

from rgunicorn.glogging import *
from rgunicorn.glogging import CONFIG_DEFAULTS, Logger, SafeAtoms, loggers, parse_syslog_address
