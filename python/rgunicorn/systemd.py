"""The sides of systemd's protocols that programs use; the server speaks them natively."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgunicorn.glogging import Logger

#: The first descriptor of those that systemd passes (sd_listen_fds(3)).
SD_LISTEN_FDS_START = 3


def listen_fds(unset_environment: bool = True) -> int:
    """Count the listening sockets that systemd has passed to this process, and forget them unless told otherwise.

    In a server they are those that it has taken, and its environment no longer has the variables. Raises `ValueError`
    when a variable is no number.
    """
    count, owner = (int(os.environ.get(name, "0")) for name in ("LISTEN_FDS", "LISTEN_PID"))
    if owner != os.getpid():
        return 0
    if unset_environment:
        for name in ("LISTEN_FDS", "LISTEN_PID"):
            os.environ.pop(name, None)
    return count


def sd_notify(state: str, logger: Logger, unset_environment: bool = False) -> None:
    """Tell systemd something (sd_notify(3)); nothing outside of a service. A failure is a debug line."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address is None:
        return
    # An abstract name begins with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            sock.sendall(state.encode())
    except Exception:
        logger.debug("Cannot notify systemd", exc_info=True)
    finally:
        if unset_environment:
            os.environ.pop("NOTIFY_SOCKET", None)
