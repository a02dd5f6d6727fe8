"""What hooks are given: the server, the worker, and their log."""

from __future__ import annotations

import sys
import traceback

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Log:
    """The error log, with the methods of Gunicorn's logger."""

    def __init__(self, write: Callable[[str, object, tuple[object, ...]], None]) -> None:
        self._write = write

    def critical(self, msg: object, *args: object, **kwargs: object) -> None:
        """The server cannot go on."""
        self._write("critical", msg, args)

    def error(self, msg: object, *args: object, **kwargs: object) -> None:
        """Something failed."""
        if kwargs.get("exc_info") and sys.exc_info()[0] is not None:
            # What the traceback says is not a format.
            text = traceback.format_exc().rstrip()
            # Without arguments the message is no format either.
            msg, args = (f"{msg}\n%s", (*args, text)) if args else ("%s\n%s", (msg, text))
        self._write("error", msg, args)

    def warning(self, msg: object, *args: object, **kwargs: object) -> None:
        """Something is wrong, and work goes on."""
        self._write("warning", msg, args)

    def info(self, msg: object, *args: object, **kwargs: object) -> None:
        """What happens."""
        self._write("info", msg, args)

    def debug(self, msg: object, *args: object, **kwargs: object) -> None:
        """Details."""
        self._write("debug", msg, args)

    def exception(self, msg: object, *args: object, **kwargs: object) -> None:
        """An error, with the exception that is being handled."""
        self.error(msg, *args, exc_info=True)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: object) -> None:
        """At a level of `logging`, or one named."""
        names = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
        name = names.get(lvl, "info") if isinstance(lvl, int) else lvl
        self._write(name, msg, args)


class Server:
    """The master, as hooks see it. Attributes may be added."""

    def __init__(self, pid: int, log: Log) -> None:
        self.pid = pid
        self.log = log


class Worker:
    """A worker, as hooks see it. Attributes may be added."""

    def __init__(self, pid: int, age: int, ppid: int, log: Log) -> None:
        self.pid = pid
        self.age = age
        self.ppid = ppid
        self.log = log
        self.booted = False
        self.aborted = False
        self.alive = True

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"
