"""Both logs as JSON lines, by a dict in the file."""

import json
import logging


class JsonFormatter(logging.Formatter):
    """One object per line."""

    def format(self, record):
        entry = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.name == "gunicorn.access":
            entry["status"] = record.args["s"]
            entry["path"] = record.args["U"]
            entry["agent"] = record.args["a"]
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False, "qualname": "gunicorn.error"},
        "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False, "qualname": "gunicorn.access"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.FileHandler", "formatter": "json", "filename": "access.json"},
    },
    "formatters": {"json": {"()": JsonFormatter}},
}
