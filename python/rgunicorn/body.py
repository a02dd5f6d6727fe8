"""Request bodies for programs that make one around a reader of theirs, and names of Gunicorn's readers.

``wsgi.input`` of the server is native; `req.body` of hooks is empty (`rgunicorn._server.Body`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rgunicorn._names import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes that are asked of a reader at least, so that many short lines do not mean as many calls.
_READ_AHEAD_MIN = 1024


class Reader(Protocol):
    """An object with Python's `read`, which gives no bytes at the end."""

    def read(self, size: int, /) -> bytes:
        """Read up to so many bytes."""


class Body:
    """A body that is read from a reader: the methods that PEP 3333 asks of ``wsgi.input``."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._ahead = b""

    def _more(self, size: int | None) -> bool:
        """Read once more; False at the end."""
        data = self.reader.read(max(size or 0, _READ_AHEAD_MIN))
        self._ahead += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    def read(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all; fewer at the end. Raises `TypeError` for a size that is no number."""
        wanted = limit(size)
        while wanted is None or len(self._ahead) < wanted:
            if not self._more(None if wanted is None else wanted - len(self._ahead)):
                break
        return self._take(len(self._ahead) if wanted is None else wanted)

    def readline(self, size: int | None = None) -> bytes:
        """Read up to the end of a line, or so many bytes. Raises `TypeError` for a size that is no number."""
        wanted, searched = limit(size), 0
        while True:
            end = self._ahead.find(b"\n", searched)
            searched = len(self._ahead)
            if end >= 0 or (wanted is not None and searched >= wanted) or not self._more(None):
                break
        line = end + 1 if end >= 0 else len(self._ahead)
        return self._take(line if wanted is None else min(line, wanted))

    def readlines(self, size: int | None = None) -> list[bytes]:
        """Read all lines, whatever the size is."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


def limit(size: int | None) -> int | None:
    """Return how many bytes are asked for; None for all."""
    if size is not None and not isinstance(size, int):
        raise TypeError(f"{size!r} is no number of bytes")
    return None if size is None or size < 0 else size


class NamedReader:
    """A name of Gunicorn's for what reads from a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse(f"gunicorn.http's {type(self).__name__}", "The server reads requests; a body is read by wsgi.input.")


class ChunkedReader(NamedReader):
    """The reader of a body in chunks."""


class LengthReader(NamedReader):
    """The reader of a body whose length is known."""


class EOFReader(NamedReader):
    """The reader of a body that ends with its connection."""


class SocketUnreader(NamedReader):
    """The reader of a socket."""


class IterUnreader(NamedReader):
    """The reader of an iterable."""


class Parser(NamedReader):
    """The parser of a connection."""


class RequestParser(Parser):
    """The parser of a client's connection."""
