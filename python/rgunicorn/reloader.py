"""Threads that watch source files, for programs that reload something themselves.

The server's own `--reload` is native and uses none of them; `worker.reloader` is None.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from rgunicorn._reload import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class ReloaderBase(threading.Thread):
    """A thread that watches the sources of all loaded modules, and other files."""

    def __init__(
        self,
        extra_files: Iterable[str] | None = None,
        interval: float = 1,
        callback: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._extra = set(extra_files or ())
        self._interval = interval
        self._callback = callback

    def add_extra_file(self, filename: str) -> None:
        """Watch one more file."""
        self._extra.add(filename)

    def get_files(self) -> list[str]:
        """List the files that are watched, those that a pattern matches now included."""
        return files(self._extra)


class Reloader(ReloaderBase):
    """A reloader that looks at the times of the files, again and again."""

    def run(self) -> None:
        """Watch for ever; the callback gets the name of a file that has changed, at each look."""
        before: dict[str, float] = {}
        while True:
            for name in self.get_files():
                try:
                    changed = os.stat(name).st_mtime
                except OSError:
                    continue
                if changed > before.setdefault(name, changed) and self._callback is not None:
                    self._callback(name)
            time.sleep(self._interval)


class InotifyReloader(Reloader):
    """The reloader that is asked for as ``inotify``; it looks at times, every second, as the other does."""

    def __init__(
        self, extra_files: Iterable[str] | None = None, callback: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(extra_files, callback=callback)


preferred_reloader = Reloader
#: The classes by the values of the setting `reload_engine`.
reloader_engines: dict[str, type[ReloaderBase]] = {
    "auto": preferred_reloader,
    "poll": Reloader,
    "inotify": InotifyReloader,
}
