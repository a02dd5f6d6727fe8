"""Filters on the standard loggers, added while they are set up."""

import logging

from gunicorn.glogging import Logger

accesslog = "access.log"
access_log_format = "%(U)s %(s)s"


class HealthFilter(logging.Filter):
    """Drops records whose text names the health check."""

    def filter(self, record):
        return "/health" not in record.getMessage()


class PidFilter(logging.Filter):
    """Adds an attribute that the format below uses."""

    def filter(self, record):
        record.service = "shop"
        return True


class FilteringLogger(Logger):
    """Setup of the base class first, then changes to its loggers and handlers."""

    error_fmt = "%(service)s %(levelname)s %(message)s"

    def setup(self, cfg):
        super().setup(cfg)
        logging.getLogger("gunicorn.access").addFilter(HealthFilter())
        self.error_log.addFilter(PidFilter())


logger_class = FilteringLogger
