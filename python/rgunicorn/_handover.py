"""The client socket in ``environ["gunicorn.socket"]``.

A request that never looks at its socket must not pay for one, so the environ
holds a `ClientSocket`: an instance of `socket.socket` without a descriptor. Its
first use takes the connection over from the worker's loop and turns the object
into a plain `socket.socket` (by assigning ``__class__``; the layouts are equal).
"""

from __future__ import annotations

import socket
import weakref

from rgunicorn._rgunicorn import _take_socket

# Type checkers take this for true; a worker has no use for `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from _typeshed import WriteableBuffer

    from rgunicorn._rgunicorn import RequestHandle

# An unborn socket keeps the handle of its request in a slot that `socket.socket`
# fills only when it is initialised.
_io_refs: Any = vars(socket.socket)["_io_refs"]
set_handle: Callable[[socket.socket, RequestHandle], None] = _io_refs.__set__
_get_handle: Callable[[socket.socket], RequestHandle] = _io_refs.__get__

_unread: weakref.WeakKeyDictionary[socket.socket, memoryview] = weakref.WeakKeyDictionary()


def _become_real(sock: socket.socket) -> None:
    fd, unread = _take_socket(_get_handle(sock))
    if unread:
        object.__setattr__(sock, "__class__", _SocketWithUnreadBytes)
        _unread[sock] = memoryview(unread)
    else:
        object.__setattr__(sock, "__class__", socket.socket)
    socket.socket.__init__(sock, fileno=fd)


class ClientSocket(socket.socket):
    """A client's socket that becomes real at its first use."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        _become_real(self)
        return getattr(self, name)

    def __enter__(self) -> Self:
        _become_real(self)
        return self

    def __repr__(self) -> str:
        return "<rgunicorn client socket, not used yet>"


class _SocketWithUnreadBytes(socket.socket):
    """A client's socket that gives out what the worker had received before it reads on."""

    __slots__ = ()

    def _take(self, size: int) -> memoryview:
        data = _unread[self]
        taken, rest = data[:size], data[size:]
        if rest:
            _unread[self] = rest
        else:
            del _unread[self]
            object.__setattr__(self, "__class__", socket.socket)
        return taken

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return unread bytes; `MSG_PEEK` leaves them there."""
        if flags & socket.MSG_PEEK:
            return bytes(_unread[self][:bufsize])
        return bytes(self._take(bufsize))

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Fill a buffer with unread bytes."""
        view = memoryview(buffer).cast("B")
        size = nbytes or len(view)
        data = _unread[self][:size] if flags & socket.MSG_PEEK else self._take(size)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, None]:
        """Return unread bytes and no address, as of any connected socket."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, None]:
        """Fill a buffer with unread bytes; there is no address."""
        return self.recv_into(buffer, nbytes, flags), None
