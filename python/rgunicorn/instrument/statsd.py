"""A logger that sends metrics to a statsd server, in datagrams over UDP or a unix socket.

Records at whatever level become metrics when their `extra` has `metric`, `value` and `mtype` (one of the types below).
"""

from __future__ import annotations

import logging
import socket
import time

from rgunicorn.glogging import Logger

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from typing import Any

METRIC_VAR = "metric"
VALUE_VAR = "value"
MTYPE_VAR = "mtype"
GAUGE_TYPE = "gauge"
COUNTER_TYPE = "counter"
HISTOGRAM_TYPE = "histogram"
TIMER_TYPE = "timer"

# A unix socket holds ten datagrams (net.unix.max_dgram_qlen), so a send has to wait for a reader now and then; but not
# for one that has stopped. After that, metrics are dropped for a while.
_SEND_SECONDS_MAX = 0.1
_PAUSE_SECONDS = 1.0


def _full_prefix(prefix: str) -> str:
    stem = prefix.rstrip(".")
    # Gunicorn leaves a prefix of one letter as it is, and dashboards have names with it.
    return stem + "." if len(stem) > 1 else prefix


def _connect(address: str | tuple[str, int]) -> socket.socket:
    if isinstance(address, str):
        return _connected(socket.AF_UNIX, address)
    if ":" in address[0]:
        return _connected(socket.AF_INET6, address)
    try:
        # As Gunicorn: a name has an address of both families often, and a statsd on one of them.
        return _connected(socket.AF_INET, address)
    except socket.gaierror:
        return _connected(socket.AF_INET6, address)


def _connected(family: int, address: str | tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(_SEND_SECONDS_MAX)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


class Statsd(Logger):
    """A logger that counts requests, their statuses and duration, and records of the error log that tell of trouble."""

    # A setup may log before there is a connection.
    prefix: str = ""
    dogstatsd_tags: str = ""
    sock: socket.socket | None = None
    _paused_until: float = 0.0

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.prefix = _full_prefix(cfg.statsd_prefix)
        self.dogstatsd_tags = cfg.dogstatsd_tags
        self._address: str | tuple[str, int] | None = cfg.statsd_host
        self._reconnect()

    def _reconnect(self) -> None:
        """Connect anew; without a connection metrics go nowhere, and the server works all the same."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        if self._address is None:
            return
        try:
            self.sock = _connect(self._address)
        except Exception as error:
            super().warning("No connection to statsd at %s: %s", self._address, error)

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that the server cannot go on, and count it."""
        super().critical(msg, *args, **kwargs)
        self.increment("gunicorn.log.critical", 1)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that something failed, and count it."""
        super().error(msg, *args, **kwargs)
        self.increment("gunicorn.log.error", 1)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log that something is wrong, and count it."""
        super().warning(msg, *args, **kwargs)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log an error with the exception that is being handled, and count it."""
        super().exception(msg, *args, **kwargs)
        self.increment("gunicorn.log.exception", 1)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what happens, or send the metric of the record."""
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log details, or send the metric of the record."""
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """Send the metric of the record, if it has one; a record without a text is nothing else."""
        try:
            self._measure(kwargs.get("extra") or {})
            if msg:
                super().log(lvl, msg, *args, **kwargs)
        except Exception:
            super().warning("Cannot log to statsd", exc_info=True)

    def _measure(self, extra: Mapping[str, Any]) -> None:
        metric, value, mtype = (extra.get(name) for name in (METRIC_VAR, VALUE_VAR, MTYPE_VAR))
        if not metric or value is None:
            return
        senders: dict[Any, Callable[[str, float], None]] = {
            GAUGE_TYPE: self.gauge,
            COUNTER_TYPE: self.increment,
            HISTOGRAM_TYPE: self.histogram,
            TIMER_TYPE: self.timer,
        }
        if mtype in senders:
            senders[mtype](metric, value)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one finished request and send its metrics."""
        super().access(resp, req, environ, request_time)
        status = resp.status
        if isinstance(status, bytes):
            status = status.decode()
        if isinstance(status, str):
            status = status.split(None, 1)[0]
        self.timer("gunicorn.request.duration", request_time.seconds * 1000 + request_time.microseconds / 1000)
        self.increment("gunicorn.requests", 1)
        self.increment(f"gunicorn.request.status.{int(status)}", 1)

    def gauge(self, name: str, value: float) -> None:
        """Send that something is at `value`."""
        self._sock_send(f"{self.prefix}{name}:{value}|g")

    def increment(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Count that something happened `value` times."""
        self._sock_send(f"{self.prefix}{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name: str, value: float, sampling_rate: float = 1.0) -> None:
        """Count down by `value`."""
        self._sock_send(f"{self.prefix}{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name: str, value: float) -> None:
        """Send that something took `value` milliseconds."""
        self._sock_send(f"{self.prefix}{name}:{value}|ms")

    def histogram(self, name: str, value: float) -> None:
        """Send one sample of a distribution."""
        self._sock_send(f"{self.prefix}{name}:{value}|h")

    def _sock_send(self, msg: str | bytes) -> None:
        """Send one datagram; a failure is a warning."""
        try:
            data = msg.encode("ascii") if isinstance(msg, str) else msg
            if self.dogstatsd_tags:
                data += b"|#" + self.dogstatsd_tags.encode("ascii")
            if self.sock is not None and time.monotonic() >= self._paused_until:
                self.sock.send(data)
        except Exception as error:
            super().warning("Cannot send to statsd", exc_info=True)
            if isinstance(error, TimeoutError):
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
            # A unix socket leads to a server that has gone, also after another one has taken its path.
            if isinstance(error, ConnectionError) and isinstance(self._address, str):
                self._reconnect()
