"""Servers and requests that bench/instructions.py and bench/calls.py run under callgrind, and facts about the place."""

from __future__ import annotations

import json
import pathlib
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import callgrind
import servers

OURS = "rgunicorn"
MODULE = "bench_instructions"

HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
UPLOAD_BYTES = 10_000
UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % UPLOAD_BYTES
BROWSER = b"""GET /api/v1/items?page=2&per_page=3&sort=-price&q=red%20shoes HTTP/1.1
Host: shop.example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0
Accept: application/json, text/plain, */*
Accept-Language: en-GB,en;q=0.8,de;q=0.5,fr;q=0.3
Accept-Encoding: gzip, deflate, br, zstd
Referer: https://shop.example.com/items?page=1
X-Requested-With: XMLHttpRequest
Connection: keep-alive
Cookie: sessionid=6v0p2c8k1m4x7z9q3w5e; csrftoken=Jb1xqW8uVn2sKf7RtYc4; theme=dark; seen=1%2C4%2C9
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: cors
Sec-Fetch-Site: same-origin
""".replace(b"\n", b"\r\n")


@dataclass(frozen=True)
class Scenario:
    """One kind of request, and the worker of ours that answers it."""

    app: str
    load: callgrind.Load
    worker: tuple[str, ...] = ("-k", "uring")
    peers: bool = False
    """The servers of `PEERS` have the same to do; they know one kind of worker only."""
    runs_min: int = 1
    """Runs of which the median counts, at least. How threads meet is not the same in two; and the figures by which all
    others are judged do not hang on one."""

    @property
    def uses_gevent(self) -> bool:
        """gevent and greenlet are part of what is counted."""
        return "gevent" in self.worker


_THREADS = ("-k", "gthread", "--threads", "4")

SCENARIOS = {
    "hello": Scenario("hello", callgrind.Load(HELLO), peers=True, runs_min=3),
    "json": Scenario("answer_json", callgrind.Load(BROWSER), peers=True, runs_min=3),
    "json-changing": Scenario("answer_json", callgrind.Load(BROWSER, changing=True), peers=True, runs_min=3),
    "upload": Scenario("upload", callgrind.Load(UPLOAD, body=b"x" * UPLOAD_BYTES), peers=True, runs_min=3),
    "threads-hello": Scenario("hello", callgrind.Load(HELLO), _THREADS, runs_min=3),
    "gevent-hello": Scenario("hello", callgrind.Load(HELLO), ("-k", "gevent")),
    "gevent-json": Scenario("answer_json", callgrind.Load(BROWSER), ("-k", "gevent")),
}

PEERS = servers.IN_PYTHON


def command(python: str, server: str, scenario: Scenario) -> Callable[[int], list[str]]:
    """Port to the command line of a server with one worker."""
    if server == OURS:
        # valgrind cannot run io_uring.
        options = (*scenario.worker, "--io-driver", "epoll")
        arguments = servers.gunicorn(OURS, *options, app=f"{MODULE}:{scenario.app}")
        return lambda port: [python, "-m", *arguments(port)]
    run = PEERS[server]
    return lambda port: [python, "-c", f"import {MODULE}; " + run.format(app=f"{MODULE}.{scenario.app}", port=port)]


# Runs in the measured interpreter, which need not have this directory on its path.
_ASK = """
import importlib.metadata, importlib.util, json, platform, sysconfig
def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
flags = ["--enable-shared", "--enable-optimizations", "--with-lto", "--with-pydebug"]
library = importlib.util.find_spec("rgunicorn") and importlib.util.find_spec("rgunicorn._rgunicorn")
print(json.dumps({
    "python": platform.python_implementation() + " " + platform.python_version(),
    "python build": " ".join([platform.python_compiler(), *(flag for flag in flags if flag in configured)]),
    "libc": " ".join(platform.libc_ver()),
    "versions": {package: version(package) for package in PACKAGES},
    "library": library.origin if library else None,
}))
"""


def facts(python: str, build: str | None) -> dict[str, str]:
    """Facts that the figures depend on besides the measured code; a package that is missing has no entry."""
    packages = ["gevent", "greenlet", *PEERS]
    # Not in this directory: `import` would find its files.
    done = subprocess.run(
        [python, "-c", f"PACKAGES = {packages}{_ASK}"], cwd="/", capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    versions = {package: version for package, version in told["versions"].items() if version}
    found = {"cpu": cpu(), "valgrind": _valgrind_version()}
    found |= {name: told[name] for name in ("libc", "python", "python build")}
    if told["library"]:
        found["rustc"] = compiler(pathlib.Path(told["library"]).read_bytes()) or "unknown"
        found["build"] = build or built_as(python) or "unknown"
    return found | versions


def cpu() -> str:
    """The architecture, and whether libc may use the wide registers that valgrind knows."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return platform.machine() + (" with avx2" if re.search(r"\bavx2\b", flags) else "")


def _valgrind_version() -> str:
    done = subprocess.run([callgrind.valgrind(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("valgrind-")


def compiler(library: bytes) -> str | None:
    """The commit of rustc, from a path of the standard library that a stripped library still contains."""
    found = re.search(rb"/rustc/([0-9a-f]{9})[0-9a-f]{31}/", library)
    return found[1].decode() if found else None


def built_as(python: str) -> str | None:
    """The profile that setup.sh has built in the environment of `python`."""
    noted = pathlib.Path(python).parent.parent / "built-profile"
    return noted.read_text().strip() if noted.exists() else None


def relevant(server: str, scenario: Scenario) -> set[str]:
    """The facts that a figure depends on."""
    common = {"cpu", "valgrind", "libc", "python", "python build"}
    if server != OURS:
        return common | {server}
    return common | {"rustc", "build"} | ({"gevent", "greenlet"} if scenario.uses_gevent else set())
