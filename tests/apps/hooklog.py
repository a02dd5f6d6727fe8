"""Notes that configuration files leave for the tests: one JSON line per event, in the order of the events."""

import json
import os

PATH = os.path.abspath("hooks.log")


def record(event, **facts):
    """Append a note of this process."""
    line = json.dumps({"event": event, "pid": os.getpid(), "ppid": os.getppid(), **facts}) + "\n"
    descriptor = os.open(PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
