"""Logs to the machine's collector."""

import os

syslog = True
syslog_addr = f"udp://127.0.0.1:{os.environ['SYSLOG_PORT']}"
syslog_prefix = "shop"
syslog_facility = "local3"
access_log_format = "%(m)s %(U)s %(s)s"
