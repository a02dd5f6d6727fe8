"""What third parties' packages do for configuration files, as far as a server can notice it."""

import os
import pathlib
import queue
import threading

from hooklog import record


def mark_process_dead(pid):
    """As prometheus_client.multiprocess: drop the live gauges of a process that has ended."""
    directory = pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for file in directory.glob(f"gauge_live*_{pid}.db"):
        file.unlink()
    record("mark_process_dead", dead=pid)


def open_gauge():
    """The file that a process of the multiprocess mode writes."""
    directory = pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    (directory / f"gauge_liveall_{os.getpid()}.db").touch()


class BatchSpanProcessor:
    """As OpenTelemetry's: a thread that exports what other threads hand over. It does not survive a fork."""

    def __init__(self, resource):
        self.resource = resource
        self.spans = queue.Queue()
        self.thread = threading.Thread(target=self.export, name="OtelBatchSpanProcessor", daemon=True)
        self.thread.start()

    def export(self):
        """Until None is handed over."""
        while (span := self.spans.get()) is not None:
            record("span", span=span, **self.resource)

    def shutdown(self):
        """Export what is left."""
        self.spans.put(None)
        self.thread.join()
        record("shutdown", left=self.spans.qsize())


def patch_psycopg():
    """As psycogreen: sets a callback in a C library, once per process."""
    record("patched")
