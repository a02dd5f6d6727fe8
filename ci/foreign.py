"""Request vectors that others have written, played to this server: Gunicorn's, from its source distribution.

    ci/foreign.sh        fetches the material into target/foreign, and runs this

Each vector says which requests its bytes are, or that they are none. The server answers as many of them, in order and
as they are, or refuses. What it does otherwise stands in ci/foreign-expected.txt, one vector a line with the reason; a
vector that is not listed and differs fails the run, and so does one that is listed and does not.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import socket
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "py"))

from harness import FLAVOURS, Server  # noqa: E402

EXPECTED = ROOT / "ci" / "foreign-expected.txt"
PATIENCE_S = 5.0
REFUSED_MIN = 400
SETTINGS = {
    "proxy_protocol", "limit_request_line", "limit_request_fields", "limit_request_field_size", "header_map",
    "permit_obsolete_folding", "permit_unconventional_http_method", "permit_unconventional_http_version",
    "casefold_http_method", "strip_header_spaces", "forwarded_allow_ips", "secure_scheme_headers", "forwarder_headers",
}  # fmt: skip
"""The settings that vectors choose."""


def main() -> None:
    """Play all vectors of the unpacked distribution that the command line names."""
    tests = Path(sys.argv[1]).resolve() / "tests"
    sys.path.insert(0, str(tests))
    loader = importlib.import_module("treq")
    known = expected()
    differences: dict[str, str] = {}
    played = 0
    with Servers() as servers:
        for path in sorted((tests / "requests").rglob("*.http")):
            name = f"{path.parent.name}/{path.stem}"
            found = play(servers, loader, path)
            played += 1
            if found:
                differences[name] = found
    new = {name: text for name, text in differences.items() if name not in known}
    gone = sorted(name for name in known if name not in differences)
    for name, text in sorted(new.items()):
        print(f"{name}: {text}")
    for name in gone:
        print(f"{name}: is listed in {EXPECTED.name}, and does not differ")
    print(f"{played} vectors: {played - len(differences)} as their authors say, {len(differences)} otherwise")
    if new or gone or not played:
        sys.exit(1)


def expected() -> dict[str, str]:
    """Read the differences that are meant: vector and reason."""
    lines = (line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#"))
    return {name: reason for name, _, reason in (line.partition(": ") for line in lines)}


def play(servers: Servers, loader: ModuleType, path: Path) -> str:
    """Play one vector; say how the outcome differs, or nothing."""
    wanted = loader.load_py(str(path.with_suffix(".py")))
    settings = {key: setting.get() for key, setting in wanted["cfg"].settings.items() if key in SETTINGS}
    defaults = loader.Config().settings
    changed = {key: value for key, value in settings.items() if value != defaults[key].get()}
    if path.parent.name == "invalid":
        statuses, _ = exchange(servers.of(changed), loader.badrequest(str(path)).data)
        if statuses and statuses[-1] < REFUSED_MIN:
            return f"answered {statuses} where {wanted['request'].__name__} is due"
        return ""
    requests = wanted["request"] if isinstance(wanted["request"], list) else [wanted["request"]]
    data = loader.request(str(path), wanted["request"]).data
    statuses, bodies = exchange(servers.of(changed), data)
    due = [seen(each) for each in requests]
    if not bodies or any(status >= REFUSED_MIN for status in statuses):
        return f"answered {statuses} where {due} is due"
    return "" if bodies == due[: len(bodies)] else f"saw {bodies}, not {due}"


def seen(request: dict[str, Any]) -> bytes:
    """Return what the sample application says of a request."""
    uri, body = request["uri"], request["body"]
    if isinstance(body, str):
        body = body.encode("latin-1")
    query = f"?{uri['query']}" if uri["query"] else ""
    return f"{request['method']} {uri['path']}{query} {len(body)}:".encode("latin-1") + body


def exchange(address: tuple[str, int], data: bytes) -> tuple[list[int], list[bytes]]:
    """Send bytes and their end; the statuses and the bodies of the answers."""
    answer = b""
    with socket.create_connection(address, PATIENCE_S) as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65536):
            answer += piece
    statuses, bodies = [], []
    while answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1"):
            break  # A body that no head has announced: of an answer to HEAD, or to no request.
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else len(answer)
        if status >= 200:
            statuses.append(status)
            bodies.append(answer[:size])
            answer = answer[size:]
    return statuses, bodies


class Servers(contextlib.ExitStack):
    """A server for each combination of settings."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Any] = {}

    def of(self, settings: dict[str, Any]) -> tuple[str, int]:
        """Return the address of one with these settings."""
        # Lists of addresses are set as text.
        plain = {name: ",".join(value) if isinstance(value, list) else value for name, value in settings.items()}
        config = "".join(f"{name} = {value!r}\n" for name, value in sorted(plain.items()))
        if config not in self.known:
            directory = Path(self.enter_context(tempfile.TemporaryDirectory()))
            server = Server(FLAVOURS["rgunicorn-uring"], directory)
            server.start("corpus_app:app", "-w", "1", config=config)
            self.callback(server.close)
            self.known[config] = server
        address = self.known[config].address
        assert isinstance(address, tuple)
        return address


if __name__ == "__main__":
    main()
