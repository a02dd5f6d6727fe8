"""Pid files for programs; the server writes its own natively."""

from __future__ import annotations

import contextlib
import os
import tempfile

_MODE = 0o644


class Pidfile:
    """A file that holds the id of a process."""

    def __init__(self, fname: str) -> None:
        self.fname = fname
        self.pid: int | None = None

    def create(self, pid: int) -> None:
        """Write the file in one step; without a name, a temporary file that `fname` names from then on.

        Raises `RuntimeError` when the process that it names runs, unless it is this one, or without its directory.
        """
        other = self.validate()
        if other == os.getpid():
            return
        if other:
            raise RuntimeError(f"Already running on PID {other}, which {self.fname!r} names")
        self.pid = pid
        folder = os.path.dirname(self.fname)
        if folder and not os.path.isdir(folder):
            raise RuntimeError(f"No directory {folder!r} for a pid file")
        # In the same directory, for the sake of the rename.
        directory = (folder or os.curdir) if self.fname else None
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
            file.write(f"{pid}\n")
            os.fchmod(file.fileno(), _MODE)
        if self.fname:
            os.rename(file.name, self.fname)
        else:
            self.fname = file.name

    def rename(self, path: str) -> None:
        """Have the file at another path."""
        self.unlink()
        self.fname = path
        if self.pid is not None:
            self.create(self.pid)

    def unlink(self) -> None:
        """Remove the file if it is this object's; what fails has no consequence."""
        with contextlib.suppress(OSError, ValueError):
            if self._read() == self.pid:
                os.unlink(self.fname)

    def validate(self) -> int | None:
        """Return the id that the file holds if such a process exists."""
        if not self.fname:
            return None
        try:
            pid = self._read()
        except (FileNotFoundError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return pid

    def _read(self) -> int:
        with open(self.fname) as file:
            return int(file.read())
