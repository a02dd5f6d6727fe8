"""Types of the native module. ``ci/check.sh`` compares this file with the built module (mypy's stubtest)."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, final

from typing_extensions import disjoint_base

__all__ = [
    "EarlyHints",
    "ErrorStream",
    "FileWrapper",
    "Input",
    "StartResponse",
    "Write",
    "__version__",
    "_instances",
    "_take_socket",
    "main",
]

__version__: Final[str]

def main(argv: list[str]) -> int:
    """Run the server until it stops.

    ``argv`` is the command line without the program's name (``sys.argv[1:]``). Returns the exit status that the
    process has to leave with: 0 after a graceful stop, 1 for a wrong setting or configuration, 2 for a wrong command
    line, 3 when a worker cannot boot, 4 when the application cannot be loaded. Messages are already on stderr.
    """

def _instances(class_: type[Any]) -> list[Any]:
    """Every object of a class and of those below it that the collector knows; no code of theirs runs."""

def _take_socket(ticket: int) -> tuple[int, bytes]:
    """Detach a connection: a descriptor that the caller owns, and the bytes received and not used."""

@disjoint_base
class FileWrapper:
    """``wsgi.file_wrapper``: blocks of a file-like object; around a real file it leaves by sendfile(2)."""

    def __new__(cls, filelike: Any, blksize: int = 8192) -> FileWrapper: ...
    @property
    def filelike(self) -> Any: ...
    @property
    def blksize(self) -> int: ...
    @property
    def close(self) -> Callable[[], object]: ...
    def __getitem__(self, _key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...

@final
class Input:
    """``wsgi.input``."""

    def read(self, size: int | None = None) -> bytes: ...
    def readline(self, size: int | None = None) -> bytes: ...
    def readlines(self, hint: int | None = None) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

@final
class ErrorStream:
    """``wsgi.errors``."""

    def write(self, text: str) -> None: ...
    def writelines(self, lines: Iterable[str]) -> None: ...
    def flush(self) -> None: ...

@final
class EarlyHints:
    """``wsgi.early_hints``: sends a 103 answer with these headers."""

    def __call__(self, headers: Iterable[tuple[str, str]]) -> None: ...

@final
class StartResponse:
    """The ``start_response`` of one request."""

    def __call__(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None = None,
    ) -> Write: ...

@final
class Write:
    """The ``write`` that ``start_response`` returns."""

    def __call__(self, data: bytes) -> None: ...
