"""Errors that programs around the server catch."""

from __future__ import annotations


class HaltServer(BaseException):
    """The stop of the server, with an exit status."""

    def __init__(self, reason: str, exit_status: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class ConfigError(Exception):
    """A configuration that cannot be used."""


class AppImportError(Exception):
    """An application that cannot be found."""
