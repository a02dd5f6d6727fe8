"""Requests with their outcomes.

What crosses the wire, which requests the application sees, what the server answers by itself, and whether the
connection stays.

RFC 9110, RFC 9112 and the specification of the PROXY protocol decide; where Gunicorn is stricter, Gunicorn does. The
application answers `METHOD PATH?QUERY LENGTH:BODY`, so that an outcome also says where each request has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") - frozenset(b"abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Case:
    """One connection's worth of bytes."""

    name: str
    data: bytes
    answers: tuple[str | int, ...]
    """What the application says of each request, or the status of a refusal."""
    stays: bool = True
    """A further request on the connection is answered. One that does not stay is closed by the server."""
    options: tuple[str, ...] = field(default=())
    """Settings that the case needs."""


def get(
    target: str = "/", *fields: str, host: str | None = "a", version: str = "HTTP/1.1", method: str = "GET"
) -> bytes:
    """The head of a request; a field is given as a line without its end."""
    lines = [f"{method} {target} {version}", *([] if host is None else [f"Host: {host}"]), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *fields: str, target: str = "/p") -> bytes:
    """A request with a body, framed by what `fields` say."""
    return get(target, *fields, method="POST") + body


def sized(body: bytes, target: str = "/p") -> bytes:
    """A request with a body of known length."""
    return post(body, f"Content-Length: {len(body)}", target=target)


def chunked(body: bytes, *fields: str, target: str = "/p") -> bytes:
    """A request whose body is given as chunks on the wire."""
    return post(body, "Transfer-Encoding: chunked", *fields, target=target)


def chunked_after(coding: str) -> bytes:
    """A request whose body has another coding inside of its chunks."""
    return post(b"5\r\nhello\r\n0\r\n\r\n", f"Transfer-Encoding: {coding}, chunked")


SEEN = "GET / 0:"
INNER = get("/inner")


def good(name: str, data: bytes, *answers: str | int, stays: bool = True) -> Case:
    """A case whose requests reach the application."""
    return Case(name, data, answers or (SEEN,), stays)


def bad(name: str, data: bytes, status: int = 400) -> Case:
    """A case that is refused, and its connection closed."""
    return Case(name, data, (status,), stays=False)


def request_lines() -> Iterator[Case]:
    """Method, target, version and the blanks between them."""
    yield good("plain", get())
    yield good("one empty line first", b"\r\n" + get())
    yield bad("two empty lines first", b"\r\n\r\n" + get())
    yield bad("a bare LF first", b"\n" + get())
    for blanks in ("  ", "\t", " \t", "\v", "\f", "\xa0"):
        yield bad(f"{blanks!r} after the method", f"GET{blanks}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
        yield bad(f"{blanks!r} before the version", f"GET /{blanks}HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
    yield bad("a blank at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n")
    yield bad("a blank before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    yield bad("no version", b"GET /\r\nHost: a\r\n\r\n")
    yield bad("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n")
    yield bad("an empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n")
    yield bad("four parts", b"GET / / HTTP/1.1\r\nHost: a\r\n\r\n")
    yield bad("nothing but a method", b"GET\r\n\r\n")
    yield bad("LF only", b"GET / HTTP/1.1\nHost: a\n\n")
    yield bad("CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n")
    for version in (
        "http/1.1",
        "HTTP/1,1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/11",
        "HTTP/1.1.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/a.b",
        "HTTPS/1.1",
        "ICY/1.1",
        "HTTP/1.1x",
        "XHTTP/1.1",
        "HTTP/1.1,HTTP/1.0",
        "H",
        "HTTP",
        "HTTP/",
    ):
        yield bad(f"version {version}", get(version=version))
    for version in ("HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0"):
        yield bad(f"version {version}", get(version=version))
    for minor in range(2, 10):
        yield good(f"version 1.{minor}", get(version=f"HTTP/1.{minor}"))
    yield good("HTTP/1.0", get(version="HTTP/1.0"), stays=False)
    yield good("HTTP/1.0 without Host", get(host=None, version="HTTP/1.0"), stays=False)
    yield good("HTTP/1.0 kept", get("/", "Connection: keep-alive", version="HTTP/1.0"))
    for length in (3, 20):
        yield good(f"a method of {length}", get(method="A" * length), f"{'A' * length} / 0:")
    for method in (
        "G",
        "GO",
        "A" * 21,
        "get",
        "Get",
        "gET",
        "G ET",
        "GET:",
        "GET/",
        '"GET"',
        "(GET)",
        "GET,",
        "G@T",
        "G[T",
        "G{T",
        "\xc3T",
    ):
        yield bad(f"method {method!r}", get(method=method))
    for method in ("M-SEARCH", "VERSION-CONTROL", "X_Y", "A.B", "A1B2"):
        yield good(f"method {method}", get(method=method), f"{method} / 0:")
    for byte in range(256):
        if byte not in METHOD and byte not in b" \t\r\n\v\f":
            yield bad(f"method with {byte:#04x}", b"GE" + bytes([byte]) + b"T / HTTP/1.1\r\nHost: a\r\n\r\n")
    for byte in [*range(0x21), 0x7F]:
        yield bad(f"target with {byte:#04x}", b"GET /a" + bytes([byte]) + b"b HTTP/1.1\r\nHost: a\r\n\r\n")
    targets = {
        "/": "/",
        "//": "//",
        "/a/b": "/a/b",
        "/a?b=c": "/a?b=c",
        "/a?": "/a",
        "/?": "/",
        "/??": "/??",
        "/a?b?c": "/a?b?c",
        "/%41": "/A",
        "/%2F": "//",
        "/%zz": "/%zz",
        "/%": "/%",
        "/a;b": "/a;b",
        "/a//b": "/a//b",
        "/../x": "/../x",
        "/a/../b": "/a/../b",
        "/.": "/.",
        "/~a": "/~a",
        "/a:b": "/a:b",
        "/a@b": "/a@b",
        "/a,b": "/a,b",
        "/'": "/'",
        "/a+b": "/a+b",
        "/%20": "/ ",
        "/a?%41": "/a?%41",
        "http://a/x": "/x",
        "http://a/x?y": "/x?y",
        "http://a": "",
        "http://a?x": "?x",
        "http://a:80/x": "/x",
        "http://[::1]/x": "/x",
        "http://[::1]:80/x": "/x",
        "HTTP://a/x": "/x",
        "https://a/x": "/x",
    }
    for target, path in targets.items():
        yield good(f"target {target}", get(target), f"GET {path} 0:")
    for target in (
        "a",
        "*",
        "a/b",
        "?x",
        "%2F",
        "\\",
        "http:",
        "http:/",
        "http://",
        "http:///x",
        "http://[]/x",
        "http://[zz]/x",
        "http://[::1/x",
        "http://a:b/x",
        "http://u@h/x",
        "ftp//x",
        "://a/",
        "#",
        "a:80",
    ):
        yield bad(f"target {target}", get(target))
    yield good("OPTIONS *", get("*", method="OPTIONS"), "OPTIONS * 0:")
    yield bad("POST *", get("*", method="POST"))


def hosts() -> Iterator[Case]:
    """Host: exactly one, and valid, in HTTP/1.1 (RFC 9112 section 3.2)."""
    yield bad("no Host", get(host=None))
    yield bad("two Hosts", get("/", "Host: b"))
    yield bad("two equal Hosts", get("/", "Host: a"))
    for host in (
        "a b",
        "a/b",
        "u@h",
        "[::1",
        "::1",
        "a:1:2",
        "a,b",
        "a:b",
        "[::1]x",
        "[zz]",
        "a?b",
        "a#b",
        "a\\b",
        "<a>",
        "a\tb",
        "[]",
        "a:-1",
        "[::1]:x",
        "a\x80",
    ):
        yield bad(f"Host {host!r}", get(host=host))
    for host in (
        "a",
        "a.b.c",
        "A.b",
        "a:80",
        "a:",
        "127.0.0.1",
        "127.0.0.1:8000",
        "[::1]",
        "[::1]:80",
        "[v1.a:b]",
        "",
        "xn--bcher-kva.example",
        "a_b",
        "a:99999999",
        "a-b",
        "%41",
        "a~b",
        "1",
    ):
        yield good(f"Host {host!r}", get(host=host))


def fields() -> Iterator[Case]:
    """Names, colons, values, line ends."""
    for byte in range(256):
        if byte not in TCHAR and byte not in b"\r\n:":
            yield bad(f"name with {byte:#04x}", b"GET / HTTP/1.1\r\nHost: a\r\nX" + bytes([byte]) + b"Y: v\r\n\r\n")
    for byte in sorted(TCHAR - frozenset(b"_")):
        yield good(f"name with {chr(byte)}", b"GET / HTTP/1.1\r\nHost: a\r\nX" + bytes([byte]) + b"Y: v\r\n\r\n")
    for byte in [*range(0x09), *range(0x0B, 0x0D), *range(0x0E, 0x20), 0x7F]:
        yield bad(f"value with {byte:#04x}", b"GET / HTTP/1.1\r\nHost: a\r\nX: a" + bytes([byte]) + b"b\r\n\r\n")
    for byte in (0x09, 0x20, 0x21, 0x7E, 0x80, 0xA0, 0xFF):
        yield good(f"value with {byte:#04x}", b"GET / HTTP/1.1\r\nHost: a\r\nX: a" + bytes([byte]) + b"b\r\n\r\n")
    lines = {
        "a bare CR in a value": b"X: a\rb",
        "a CR at the end of a value": b"X: a\r",
        "a folded value": b"X: a\r\n b",
        "a value folded by a tab": b"X: a\r\n\tb",
        "a blank before the colon": b"X : a",
        "a tab before the colon": b"X\t: a",
        "no colon": b"X a",
        "no name": b": a",
        "a colon alone": b":",
        "a blank in front of a name": b" X: a",
        "a line of blanks": b"  ",
        "a NUL alone": b"\0",
        "a name in quotes": b'"X": a',
        "a name with a slash": b"X/Y: a",
    }
    for name, line in lines.items():
        yield bad(name, b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    yield bad("a folded line first", b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n")
    yield bad("LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")
    yield bad("LF as the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n")
    yield good("an empty value", get("/", "X:"))
    yield good("blanks around a value", get("/", "X: \t a \t "))
    yield good("a value of blanks", get("/", "X:    "))
    yield good("a colon in a value", get("/", "X: a:b"))
    yield good("100 fields", get("/", *(f"X{number}: v" for number in range(99))))
    yield bad("101 fields", get("/", *(f"X{number}: v" for number in range(100))), 431)
    yield good("a field at its limit", get("/", "X: " + "v" * (8190 - len("X: \r\n"))))
    yield bad("a field beyond its limit", get("/", "X: " + "v" * (8191 - len("X: \r\n"))), 431)
    yield bad("a request line beyond its limit", get("/" + "a" * 4094), 414)


def framing() -> Iterator[Case]:
    """Lengths, chunks, and those that contradict each other."""
    yield good("a length", sized(b"hello"), "POST /p 5:hello")
    yield good("a length of 0", sized(b""), "POST /p 0:")
    yield good("a length with zeros", post(b"hello", "Content-Length: 005"), "POST /p 5:hello")
    yield good("a GET with a body", get("/g", "Content-Length: 2") + b"ab", "GET /g 2:ab")
    for value in (
        "",
        "-1",
        "+5",
        "5 5",
        "5,5",
        "5, 5",
        "5;",
        "0x5",
        "5.0",
        "5e0",
        "a",
        "\xb2",
        "1_0",
        " ",
        "5\x0b",
        "5 6",
        "\xd9\xa5",
    ):
        yield bad(f"Content-Length {value!r}", post(b"hello", f"Content-Length: {value}"))
    yield bad("two lengths", post(b"hello", "Content-Length: 5", "Content-Length: 6"))
    yield bad("two equal lengths", post(b"hello", "Content-Length: 5", "Content-Length: 5"))
    for name in ("Content-Length ", "Content_Length", "Content-Length\t"):
        if name != "Content_Length":
            yield bad(f"{name!r} as a name", post(b"hello", f"{name}: 5"))
    yield good("chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n"), "POST /p 5:hello")
    yield good("several chunks", chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "POST /p 5:hello")
    yield good("no chunks", chunked(b"0\r\n\r\n"), "POST /p 0:")
    yield good("sizes in capitals", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), "POST /p 10:0123456789")
    yield good("sizes with zeros", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), "POST /p 5:hello")
    yield good("a chunk extension", chunked(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), "POST /p 5:hello")
    yield good("a quoted extension", chunked(b'5;a="b c"\r\nhello\r\n0\r\n\r\n'), "POST /p 5:hello")
    yield good("a trailer", chunked(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "POST /p 5:hello")
    yield good("two trailers", chunked(b"0\r\nX: y\r\nZ: w\r\n\r\n"), "POST /p 0:")
    sizes = {
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "a size that is no number": b"x\r\nhello\r\n0\r\n\r\n",
        "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
        "a size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a size in blanks": b" 5\r\nhello\r\n0\r\n\r\n",
        "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
        "LF after a size": b"5\nhello\r\n0\r\n\r\n",
        "CR after a size": b"5\rhello\r\n0\r\n\r\n",
        "LF after a chunk": b"5\r\nhello\n0\r\n\r\n",
        "no end of a chunk": b"5\r\nhello0\r\n\r\n",
        "a longer chunk": b"4\r\nhello\r\n0\r\n\r\n",
        "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
        "a comma after the size": b"5,\r\nhello\r\n0\r\n\r\n",
        "LF as the last end": b"0\r\n\n",
        "a bad trailer": b"0\r\nX y\r\n\r\n",
        "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
        "a NUL in a trailer": b"0\r\nX: \0\r\n\r\n",
    }
    for name, body in sizes.items():
        yield bad(name, chunked(body))
    yield bad("a size beyond 64 bits", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 413)
    codings = (
        "chunked, chunked",
        "chunked, gzip",
        "chunked,",
        "identity",
        "Chunked ,",
        "chunked;a",
        "\x0bchunked",
        '"chunked"',
        "xchunked",
        "chunkedx",
        "chunked\x00",
        "chunked gzip",
        "",
    )
    for coding in codings:
        yield Case(
            f"Transfer-Encoding {coding!r}",
            post(b"0\r\n\r\n", f"Transfer-Encoding: {coding}"),
            ("4xx or 501",),
            stays=False,
        )
    yield Case("Transfer-Encoding 'gzip'", post(b"0\r\n\r\n", "Transfer-Encoding: gzip"), ("4xx or 501",), stays=False)
    yield good("Transfer-Encoding 'identity, chunked'", chunked_after("identity"), "POST /p 5:hello")
    # The application gets what is in the chunks, as it is; that such a message ends where it does is the sender's word.
    for coding in ("gzip", "deflate"):
        yield good(f"Transfer-Encoding '{coding}, chunked'", chunked_after(coding), "POST /p 5:hello", stays=False)
    for name in (
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "Transfer\0-Encoding",
        "Transfer-Encoding\r",
    ):
        yield bad(f"{name!r} as a name", post(b"0\r\n\r\n", f"{name}: chunked"))
    yield bad("a length and chunks", post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"))
    yield bad("chunks and a length", post(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"))
    yield bad("chunks twice", post(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"))
    yield bad(
        "chunks in HTTP/1.0", get("/p", "Transfer-Encoding: chunked", version="HTTP/1.0", method="POST") + b"0\r\n\r\n"
    )


def keeping() -> Iterator[Case]:
    """Connections that stay, requests behind each other, and ends."""
    yield good("two requests", get("/1") + get("/2"), "GET /1 0:", "GET /2 0:")
    yield good(
        "five requests",
        b"".join(get(f"/{number}") for number in range(5)),
        *(f"GET /{number} 0:" for number in range(5)),
    )
    yield good("a body and a request", sized(b"hello") + get("/2"), "POST /p 5:hello", "GET /2 0:")
    yield good("chunks and a request", chunked(b"1\r\na\r\n0\r\n\r\n") + get("/2"), "POST /p 1:a", "GET /2 0:")
    yield good(
        "a body that looks like a request",
        sized(INNER) + get("/2"),
        f"POST /p {len(INNER)}:{INNER.decode()}",
        "GET /2 0:",
    )
    yield good("an empty line between", get("/1") + b"\r\n" + get("/2"), "GET /1 0:", "GET /2 0:")
    for value in ("close", "Close", "CLOSE", "close, x", "x, close", "keep-alive, close", ",close", "x,\tclose"):
        yield good(f"Connection: {value}", get("/", f"Connection: {value}"), stays=False)
    for value in ("keep-alive", "x", "", "closed", "x-close", '"close"'):
        yield good(f"Connection: {value}", get("/", f"Connection: {value}"))
    yield good("Connection in two fields", get("/", "Connection: x", "Connection: close"), stays=False)
    yield good("nothing behind the last", get("/1", "Connection: close") + get("/2"), "GET /1 0:", stays=False)
    yield Case("a bad one behind a good one", get("/1") + b"BAD\r\n\r\n", ("GET /1 0:", 400), stays=False)
    yield Case("nothing behind a bad one", b"BAD\r\n\r\n" + get("/2"), (400,), stays=False)
    yield good(
        "100-continue with its body", post(b"hello", "Content-Length: 5", "Expect: 100-continue"), "POST /p 5:hello"
    )
    yield good("HEAD", get("/h", method="HEAD"), "HEAD")
    yield Case("an upgrade that nobody wants", get("/", "Connection: Upgrade", "Upgrade: h2c"), (SEEN,))
    yield Case("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,), stays=False)
    yield Case("TLS", bytes.fromhex("16030100c8010000c40303") + b"a" * 50 + b"\r\n\r\n", (400,), stays=False)


PROXY = ("--proxy-protocol", "--proxy-allow-from", "*")
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, body: bytes) -> bytes:
    """A PROXY header of version 2."""
    return V2 + bytes([0x20 | command, family]) + len(body).to_bytes(2, "big") + body


def proxied() -> Iterator[Case]:
    """PROXY headers before the first request."""
    v1 = {
        "TCP4": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n",
        "TCP6": b"PROXY TCP6 ::1 ::2 1000 80\r\n",
        "UNKNOWN": b"PROXY UNKNOWN\r\n",
        "UNKNOWN with more": b"PROXY UNKNOWN a b c d\r\n",
        "port 0": b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n",
        "none": b"",
    }
    for name, header in v1.items():
        yield Case(f"PROXY {name}", header + get() + get("/2"), (SEEN, "GET /2 0:"), options=PROXY)
    wrong = {
        "lower case": b"proxy TCP4 1.2.3.4 5.6.7.8 1000 80\r\n",
        "TCP5": b"PROXY TCP5 1.2.3.4 5.6.7.8 1000 80\r\n",
        "LF": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\n",
        "no port": b"PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
        "a port too many": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "port 65536": b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 80\r\n",
        "a port with a plus": b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 80\r\n",
        "256": b"PROXY TCP4 1.2.3.256 5.6.7.8 1 80\r\n",
        "three numbers": b"PROXY TCP4 1.2.3 5.6.7.8 1 80\r\n",
        "IPv6 as TCP4": b"PROXY TCP4 ::1 ::2 1 80\r\n",
        "IPv4 as TCP6": b"PROXY TCP6 1.2.3.4 5.6.7.8 1 80\r\n",
        "two blanks": b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 80\r\n",
        "a tab": b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 80\r\n",
        "a long line": b"PROXY UNKNOWN " + b"a" * 100 + b"\r\n",
    }
    for name, header in wrong.items():
        yield Case(f"PROXY with {name}", header + get(), (400,), stays=False, options=PROXY)
    inet, inet6 = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + b"\x03\xe8\0\x50", bytes(32) + b"\x03\xe8\0\x50"
    for name, header in {
        "TCP over IPv4": v2(1, 0x11, inet),
        "TCP over IPv6": v2(1, 0x21, inet6),
        "LOCAL": v2(0, 0, b""),
        "LOCAL with addresses": v2(0, 0x11, inet),
        "extensions": v2(1, 0x11, inet + b"\x03\0\x04abcd"),
        "UNSPEC": v2(1, 0, b""),
        "UDP over IPv4": v2(1, 0x12, inet),
        "AF_UNIX": v2(1, 0x31, bytes(216)),
    }.items():
        yield Case(f"PROXY v2, {name}", header + get(), (SEEN,), options=PROXY)
    for name, header in {
        "version 1": V2 + b"\x11\x11\0\x0c" + inet,
        "version 3": V2 + b"\x31\x11\0\x0c" + inet,
        "command 2": v2(2, 0x11, inet),
        "a short body": v2(1, 0x11, inet[:8]),
    }.items():
        yield Case(f"PROXY v2 with {name}", header + get(), (400,), stays=False, options=PROXY)
    yield Case("PROXY twice", v1["TCP4"] * 2 + get(), (400,), stays=False, options=PROXY)
    yield Case("PROXY before the second request", get() + v1["TCP4"] + get(), (SEEN, 400), stays=False, options=PROXY)


def cases() -> list[Case]:
    """All of them, each with a name of its own."""
    groups = {
        "line": request_lines,
        "host": hosts,
        "field": fields,
        "framing": framing,
        "keep": keeping,
        "proxy": proxied,
    }
    found = [
        Case(f"{group}: {case.name}", case.data, case.answers, case.stays, case.options)
        for group, make in groups.items()
        for case in make()
    ]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return found
