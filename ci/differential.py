"""One reading of each request: the corpus of the suite, played to this server and to others.

    ci/foreign.sh        fetches what is missing, and runs this

What the application behind each server sees of the same bytes is compared: requests, their bodies, their number. Two
servers that see different requests are how requests are smuggled. Every disagreement stands in ci/differential.txt with
a verdict: who is right, and by which rule; one that is not listed fails the run, and so does one that is gone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "py"))

from corpus import PROXY, cases  # noqa: E402
from foreign import exchange  # noqa: E402
from harness import FLAVOURS, Server, connect, wait_for  # noqa: E402

APPS = ROOT / "tests" / "apps"
VERDICTS = ROOT / "ci" / "differential.txt"
OK = 200
NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 200; }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;
    uwsgi_temp_path u; scgi_temp_path s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_ignore_client_abort on;
        }}
    }}
}}
"""


def main() -> None:
    """Play the corpus to all, and compare."""
    known = verdicts()
    found: dict[str, str] = {}
    played = [case for case in cases() if case.options != PROXY]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(own("rgunicorn-uring"))
        others = {"gunicorn": stack.enter_context(own("gunicorn")), "waitress": stack.enter_context(waitress())}
        if nginx := shutil.which("nginx"):
            others["nginx"] = stack.enter_context(in_front(nginx, ours[1]))
        for case in played:
            mine = seen(ours, case.data)
            for name, address in others.items():
                theirs = seen(address, case.data)
                if theirs != mine:
                    found[f"{name}, {case.name}"] = f"we see {mine}, {name} {theirs}"
    new = {name: text for name, text in found.items() if not any(matches(pattern, name) for pattern in known)}
    gone = sorted(
        pattern
        for pattern in known
        if pattern.partition(",")[0] in others and not any(matches(pattern, name) for name in found)
    )
    for name, text in sorted(new.items()):
        print(f"{name}: {text}")
    for name in gone:
        print(f"{name}: has a verdict, and there is no such disagreement")
    print(
        f"{len(played)} requests beside {', '.join(others)}: {len(found)} disagreements, {len(new)} without a verdict"
    )
    if new or gone:
        sys.exit(1)


def verdicts() -> dict[str, str]:
    """Read the disagreements that are known: patterns of server and case, and the verdict."""
    lines = (line for line in VERDICTS.read_text().splitlines() if line and not line.startswith("#"))
    return {name: verdict for name, _, verdict in (line.partition(" => ") for line in lines)}


def matches(pattern: str, name: str) -> bool:
    """Whether a disagreement is one of a pattern's; `*` stands for anything, brackets for themselves."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def seen(address: tuple[str, int], data: bytes) -> list[str]:
    """Return what the application has said, as far as it was asked."""
    statuses, bodies = exchange(address, data)
    return [body.decode("latin-1") for status, body in zip(statuses, bodies, strict=True) if status == OK]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def own(flavour: str) -> Iterator[tuple[str, int]]:
    """Run a server of the suite."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(FLAVOURS[flavour], Path(directory))
        server.start("corpus_app:app", "-w", "1")
        try:
            yield server.address
        finally:
            server.close()


@contextlib.contextmanager
def process(command: list[str], port: int, **options) -> Iterator[tuple[str, int]]:
    """Run a program that listens at a port."""

    def listens() -> bool:
        with contextlib.suppress(OSError):
            connect(("127.0.0.1", port)).close()
            return True
        return False

    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    try:
        wait_for(f"{command[0]} at {port}", listens)
        yield "127.0.0.1", port
    finally:
        running.terminate()
        running.wait()


def waitress() -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Run another WSGI server in Python."""
    port = free_port()
    serve = f"import waitress, corpus_app; waitress.serve(corpus_app.app, host='127.0.0.1', port={port}, threads=4)"
    path = os.pathsep.join([str(ROOT / "target" / "foreign" / "packages"), str(APPS)])
    return process([sys.executable, "-c", serve], port, env={**os.environ, "PYTHONPATH": path})


@contextlib.contextmanager
def in_front(nginx: str, behind: int) -> Iterator[tuple[str, int]]:
    """Run nginx, and this server behind it: what it makes of the bytes is what we get."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "nginx.conf"
        config.write_text(NGINX.format(port=port, behind=behind))
        with process([nginx, "-p", directory, "-c", str(config), "-e", "stderr"], port) as address:
            yield address


if __name__ == "__main__":
    main()
