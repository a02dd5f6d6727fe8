"""Helpers around files, descriptors and accounts that programs import from `gunicorn.util`."""

from __future__ import annotations

import contextlib
import os
import pwd
from os import closerange

__all__ = [
    "REDIRECT_TO",
    "check_is_writable",
    "check_is_writeable",
    "chown",
    "closerange",
    "get_username",
    "set_non_blocking",
    "set_owner_process",
    "unlink",
]

#: Where a daemon's output goes.
REDIRECT_TO = os.devnull


def get_username(uid: int) -> str:
    """Return the name of an account; raises `KeyError` if there is none of this number."""
    return pwd.getpwuid(uid).pw_name


def set_owner_process(uid: int, gid: int, initgroups: bool = False) -> None:
    """Become an account; 0 leaves the user or the group as it is. Raises `PermissionError` if that is not allowed.

    With `initgroups` the process gets the account's other groups, if the account has a name.
    """
    name = None
    if initgroups and uid and gid:
        with contextlib.suppress(KeyError):
            name = get_username(uid)
    if name is not None:
        os.initgroups(name, gid)
    if gid and gid != os.getgid():
        os.setgid(gid)
    if uid and uid != os.getuid():
        os.setuid(uid)


def chown(path: str, uid: int, gid: int) -> None:
    """Give a file to an account."""
    os.chown(path, uid, gid)


def unlink(filename: str) -> None:
    """Remove a file; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(filename)


def check_is_writable(path: str) -> None:
    """Open a file for appending, which makes it if it is not there. Raises `RuntimeError` where that fails."""
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise RuntimeError(f"Error: {path!r} cannot be written: {error}") from error


#: The name of older releases of Gunicorn.
check_is_writeable = check_is_writable


def set_non_blocking(fd: int) -> None:
    """Let no operation of a descriptor wait."""
    os.set_blocking(fd, False)
