"""Listening sockets as hooks see them, under the names of Gunicorn's classes, and TLS contexts for programs.

The server opens and closes its sockets natively.
"""

from __future__ import annotations

import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from rgunicorn._names import refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rgunicorn.config import Config

# Of struct tcp_info (linux/tcp.h): enough of it, and where tcpi_unacked is, which is the queue's length for a listener.
_TCP_INFO_BYTES = 104
_UNACKED = 24
_OPENS = "The server opens and closes its sockets itself, by the setting bind."


class ListeningSocket(socket.socket):
    """A socket object on a descriptor that is the server's."""

    def close(self) -> None:
        """Leave the descriptor open."""

    def __del__(self) -> None:
        """Leave it open here, too."""


class BaseSocket:
    """A listening socket, as `server.LISTENERS` holds it. Programs cannot make one: `NotImplementedError`."""

    FAMILY: ClassVar[int]

    def __init__(self, address: Any, conf: Any, log: Any, fd: int | None = None) -> None:
        refuse(f"gunicorn.sock.{type(self).__name__}", _OPENS)

    def _take(self, fd: int, name: Any, text: str) -> None:
        self._fd, self._text = fd, text
        #: The address that it is bound to.
        self.cfg_addr = name

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def getsockname(self) -> Any:
        """Return the address that it is bound to."""
        return self.cfg_addr

    @property
    def sock(self) -> socket.socket:
        """A socket object of the same descriptor, which cannot be closed."""
        return ListeningSocket(fileno=self._fd)

    def get_backlog(self) -> int:
        """Count the connections in the accept queue; -1 where the kernel does not tell (unix sockets)."""
        return -1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.sock, name)

    def __str__(self) -> str:
        return self._text


class TCPSocket(BaseSocket):
    """A listening socket at an IPv4 address."""

    FAMILY = socket.AF_INET

    def get_backlog(self) -> int:
        """Count the connections in the accept queue."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return int.from_bytes(info[_UNACKED : _UNACKED + 4], sys.byteorder)


class TCP6Socket(TCPSocket):
    """A listening socket at an IPv6 address."""

    FAMILY = socket.AF_INET6


class UnixSocket(BaseSocket):
    """A listening unix socket."""

    FAMILY = socket.AF_UNIX


def listener(fd: int, name: Any, text: str) -> BaseSocket:
    """Return the object of a descriptor of the server's, by its address and how log lines show that."""
    kind: type[BaseSocket] = UnixSocket
    if isinstance(name, tuple):
        kind = TCP6Socket if ":" in name[0] else TCPSocket
    made = kind.__new__(kind)
    made._take(fd, name, text)
    return made


def create_sockets(conf: Any, log: Any, fds: Iterable[int] | None = None) -> list[BaseSocket]:
    """Refuse to open sockets."""
    refuse("gunicorn.sock.create_sockets", _OPENS)


def close_sockets(listeners: Iterable[BaseSocket], unlink: bool = True) -> None:
    """Refuse to close the server's sockets."""
    refuse("gunicorn.sock.close_sockets", _OPENS)


def ssl_context(conf: Config) -> ssl.SSLContext:
    """Make the TLS context of the settings, by the hook `ssl_context` if there is one.

    The server has no TLS; a program's own listener can have it. Raises what `ssl` raises for files that are missing.
    """

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=conf.ca_certs)
        context.load_cert_chain(conf.certfile, conf.keyfile)
        context.verify_mode = ssl.VerifyMode(conf.cert_reqs)
        if conf.ciphers:
            context.set_ciphers(conf.ciphers)
        return context

    found: ssl.SSLContext = conf.ssl_context(conf, make)
    return found


def ssl_wrap_socket(sock: socket.socket, conf: Config) -> ssl.SSLSocket:
    """Wrap a connection of a client by that context."""
    return ssl_context(conf).wrap_socket(
        sock,
        server_side=True,
        do_handshake_on_connect=conf.do_handshake_on_connect,
        suppress_ragged_eofs=conf.suppress_ragged_eofs,
    )
