"""Suites that others have written for their servers, run against this one.

    ci/foreign.sh                            fetches the material into target/foreign, and runs this
    ci/foreign_suites.py MATERIAL NAME...    these suites only; --logs DIRECTORY keeps what they have said

Only those tests that speak to a server over sockets, and of Gunicorn's those that ask its modules what they do, for
which they get rgunicorn's (`names`); docs/testing.md says which those are. What is otherwise here
stands in ci/foreign-suites.txt, a pattern of tests on each line, with the reason. A test that is not listed and fails,
fails the run, and so does one that is listed and does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = ROOT / "ci" / "foreign-suites.txt"
PATIENCE_S = 300.0
THREADS = ("-k", "gthread", "--threads", "8")


@dataclass(frozen=True)
class Suite:
    """Tests of others, and how they are run."""

    name: str
    distribution: str
    """The folder below the material, or nothing for what is installed."""
    tests: tuple[str, ...]
    """Files, within the folder, or modules of what is installed."""
    left_out: str = ""
    """An expression of pytest's -k."""
    later: str = ""
    """Another one: tests for the long run only."""
    guest: tuple[str, ...] = ()
    """Arguments of the server that runs the tests within a worker; without, they start servers of their own."""


SUITES = (
    Suite(
        "gunicorn", "gunicorn", ("tests/test_signal_integration.py", "tests/test_gthread_keepalive_shutdown.py"),
        left_out="idle_connection",
    ),
    Suite(
        "names", "gunicorn",
        tuple(f"tests/test_{name}.py" for name in ("config", "debug", "logger", "pidfile", "reload", "ssl", "statsd",
                                                   "systemd", "util")),
    ),
    Suite("waitress", "waitress", ("tests/test_functional.py",), left_out="TestsWithTraceback", later="Unix"),
    Suite(
        "pywsgi", "", ("gevent.tests.test__pywsgi",), guest=("-k", "gevent"),
        left_out="TestInputRaw or TestLogging or TestEnviron or TestHandlerSubclass or Https",
    ),
    Suite(
        "cheroot", "cheroot", ("cheroot/test/test_conn.py",),
        guest=(*THREADS, "--keep-alive", "1", "--header-timeout", "1", "--limit-request-body", "1001"),
        left_out="broken_connection or kb_int or unhandled_exception or selected_connection or conn_management",
    ),
    Suite(
        "cheroot", "cheroot", ("cheroot/test/test_core.py",),
        guest=(*THREADS, "--limit-request-body", "30000000"),
        left_out="before_closing",
    ),
)  # fmt: skip
"""What is left out of them calls or replaces what is inside of their servers: no request could show it. But for one of
Gunicorn's, which asks for an idle connection after half a second: as long as a leaving worker keeps it here."""


def main() -> None:
    """Run suites and compare their outcomes with what is expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("material", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--driver", default="uring")
    parser.add_argument("--long", action="store_true", help="run what takes longer, too")
    parser.add_argument("--logs", type=Path, help="a directory for what the suites have said")
    arguments = parser.parse_args()
    chosen = [suite for suite in SUITES if not arguments.names or suite.name in arguments.names]
    outcomes: dict[str, str] = {}
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda suite: run(suite, arguments), chosen):
            outcomes |= found
    failed = {name: text for name, text in outcomes.items() if text not in {"", "skipped"}}
    known = expected({suite.name for suite in chosen})
    new = [name for name in failed if not any(pattern.fullmatch(name) for pattern in known)]
    gone = [name for name, text in outcomes.items() if not text and any(pattern.fullmatch(name) for pattern in known)]
    gone += [pattern.pattern for pattern in known if not any(pattern.fullmatch(name) for name in outcomes)]
    for name in sorted(new):
        print(f"{name}: {failed[name]}")
    for name in sorted(gone):
        print(f"{name}: is listed in {EXPECTED.name}, and does not differ")
    skipped = sum(text == "skipped" for text in outcomes.values())
    passed = len(outcomes) - len(failed) - skipped
    print(f"{len(outcomes)} tests: {passed} as their authors say, {len(failed)} otherwise, {skipped} skipped")
    if new or gone or not passed:
        sys.exit(1)


def expected(suites: set[str]) -> list[re.Pattern[str]]:
    """Read the differences that are meant: a pattern of tests, and the reason."""
    lines = [line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")]
    patterns = [line.partition(": ")[0] for line in lines]
    wanted = [pattern for pattern in patterns if pattern.partition("/")[0] in suites]
    return [re.compile(".*".join(map(re.escape, pattern.split("*")))) for pattern in wanted]


def run(suite: Suite, arguments: argparse.Namespace) -> dict[str, str]:
    """Run one suite; each test with what is wrong, or nothing."""
    start, material = time.monotonic(), arguments.material
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        results = Path(directory) / "results.json"
        log = Path(directory) / "log.txt"
        folder = next(material.glob(f"{suite.distribution}-*/")).resolve() if suite.distribution else Path(directory)
        environment = os.environ | {
            "FOREIGN_SUITE": suite.name,
            "FOREIGN_RESULTS": str(results),
            "RGUNICORN_IO_DRIVER": arguments.driver,
            "FOREIGN_PORT": str(listener.getsockname()[1]),
            "FOREIGN_ARGUMENTS": "\n".join(pytest_arguments(suite, folder, arguments.long)),
            "PYTHONPATH": os.pathsep.join(
                map(str, [ROOT / "ci", folder / "src", folder, (material / "packages").resolve()])
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        descriptors: tuple[int, ...] = ()
        command = [sys.executable, "-m", "pytest", *pytest_arguments(suite, folder, arguments.long)]
        if suite.guest:
            descriptors = (listener.fileno(),)
            command = [
                sys.executable, "-m", "rgunicorn", *suite.guest, "--bind", f"fd://{listener.fileno()}",
                "--config", "python:foreign_guest", "foreign_guest:app",
            ]  # fmt: skip
        with log.open("wb") as out:
            status = subprocess.run(
                command, cwd=folder, env=environment, stdout=out, stderr=out, pass_fds=descriptors,
                timeout=PATIENCE_S, check=False,
            ).returncode  # fmt: skip
        if arguments.logs:
            (arguments.logs / f"{Path(suite.tests[0]).stem}.txt").write_bytes(log.read_bytes())
        if not results.exists():
            print(log.read_text(errors="replace"))
            sys.exit(f"{suite.name}: no outcome, status {status}")
        found = json.loads(results.read_text())
    print(f"{suite.name}: {len(found)} tests in {time.monotonic() - start:.0f} s")
    return {f"{suite.name}/{name}": text for name, text in found.items()}


def pytest_arguments(suite: Suite, folder: Path, is_long: bool) -> list[str]:
    """Return the arguments of pytest for these tests."""
    plugins = ["-p", "foreign_plugin"]
    for name in ("cacheprovider", "xdist", "timeout", "faulthandler", "threadexception", "unraisableexception"):
        plugins += ["-p", f"no:{name}"]
    where = [str(folder / test) for test in suite.tests] if suite.distribution else ["--pyargs", *suite.tests]
    names = [suite.left_out, "" if is_long else suite.later]
    left_out = ["-k", f"not ({' or '.join(filter(None, names))})"] if any(names) else []
    return ["-q", "-c", os.devnull, f"--rootdir={folder}", "--import-mode=importlib", *plugins, *left_out, *where]


if __name__ == "__main__":
    main()
