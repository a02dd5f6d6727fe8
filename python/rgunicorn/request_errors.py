"""Errors in requests, under Gunicorn's names, with the arguments and attributes that its parser gives them.

rgunicorn's parser is native and raises none of them: it answers such a request by itself. They are for programs that
raise them, or name them in ``except`` clauses. `code`, where there is one, is the status of an answer. The texts are
our own.
"""

from __future__ import annotations

from typing import ClassVar


class NoMoreData(OSError):
    """The end of a connection in the middle of a request."""

    def __init__(self, buf: object = None) -> None:
        self.buf = buf

    def __str__(self) -> str:
        return f"The connection has ended after {self.buf!r}"


class ParseException(Exception):
    """A request that cannot be read. Its text is that of the class, and the first of its attributes."""

    _text: ClassVar[str] = ""

    def __str__(self) -> str:
        if not self._text:
            return super().__str__()
        return f"{self._text}: {next(iter(vars(self).values()))!r}"


class ConfigurationProblem(ParseException):
    """A configuration by which no request can be read."""

    _text = "Bad configuration"
    code = 500

    def __init__(self, info: object) -> None:
        self.info = info


class InvalidRequestLine(ParseException):
    """A request line that is none."""

    _text = "Bad request line"
    code = 400

    def __init__(self, req: object) -> None:
        self.req = req


class InvalidRequestMethod(ParseException):
    """A method with bytes that no method has."""

    _text = "Bad method"

    def __init__(self, method: object) -> None:
        self.method = method


class ExpectationFailed(ParseException):
    """An `Expect` field that asks for something else than ``100-continue``."""

    _text = "Unknown expectation"

    def __init__(self, expect: object) -> None:
        self.expect = expect


class InvalidHTTPVersion(ParseException):
    """A version that is not answered."""

    _text = "Bad HTTP version"

    def __init__(self, version: object) -> None:
        self.version = version


class InvalidHeader(ParseException):
    """A header field that is none, or whose value is not allowed."""

    _text = "Bad header field"

    def __init__(self, hdr: object, req: object = None) -> None:
        self.hdr, self.req = hdr, req


class InvalidResponseHeader(InvalidHeader):
    """A header field of a response whose value is not allowed."""

    _text = "Bad header field of the application's"


class ObsoleteFolding(ParseException):
    """A header field of more than one line."""

    _text = "Folded header field"

    def __init__(self, hdr: object) -> None:
        self.hdr = hdr


class InvalidHeaderName(ParseException):
    """A header field whose name is none."""

    _text = "Bad name of a header field"

    def __init__(self, hdr: object) -> None:
        self.hdr = hdr


class InvalidResponseHeaderName(InvalidHeaderName):
    """A header field of a response whose name is none."""

    _text = "Bad name of a header field of the application's"


class UnsupportedTransferCoding(ParseException):
    """A transfer coding other than chunked."""

    _text = "Unknown transfer coding"
    code = 501

    def __init__(self, hdr: object) -> None:
        self.hdr = hdr


class InvalidChunkSize(ParseException):
    """A chunk whose size is no number."""

    _text = "Bad chunk size"
    code = 400

    def __init__(self, data: object) -> None:
        self.data = data


class ChunkMissingTerminator(ParseException):
    """A chunk that goes on after its end."""

    _text = "Chunk without a line end"
    code = 400

    def __init__(self, term: object) -> None:
        self.term = term


class InvalidChunkExtension(ParseException):
    """An extension of a chunk's size that is not allowed."""

    _text = "Bad chunk extension"
    code = 400

    def __init__(self, reason: object) -> None:
        self.reason = reason


class InvalidProxyLine(ParseException):
    """A PROXY header, version 1, that is none."""

    _text = "Bad PROXY line"
    code = 400

    def __init__(self, line: object) -> None:
        self.line = line


class InvalidProxyHeader(ParseException):
    """A PROXY header, version 2, that is none."""

    _text = "Bad PROXY header"
    code = 400

    def __init__(self, msg: object) -> None:
        self.msg = msg


class ForbiddenProxyRequest(ParseException):
    """A PROXY header of a peer that may send none."""

    _text = "No PROXY header is allowed from"
    code = 403

    def __init__(self, host: object) -> None:
        self.host = host


class InvalidH2CPreface(ParseException):
    """A beginning of an HTTP/2 connection that is none."""

    _text = "Bad HTTP/2 preface"

    def __init__(self, data: object) -> None:
        self.data = data


class LimitRequestLine(ParseException):
    """A request line that is too long."""

    def __init__(self, size: object, max_size: object = None) -> None:
        self.size, self.max_size = size, max_size

    def __str__(self) -> str:
        return str(self.size) if self.max_size is None else f"Long request line: {self.size} > {self.max_size}"


class LimitRequestHeaders(ParseException):
    """A head that is too long, or has too many fields."""

    def __init__(self, msg: str) -> None:
        self.msg = msg

    def __str__(self) -> str:
        return self.msg


class InvalidSchemeHeaders(ParseException):
    """Header fields of a proxy that contradict each other about the scheme."""

    def __str__(self) -> str:
        return "The header fields name two schemes"
