#!/usr/bin/env python3
"""Runs gevent's own tests, as its wheel ships them, on a loop of our choice.

    ci/gevent_tests.py --loop libev-cext --save FILE                        the baseline, on gevent's default loop
    ci/gevent_tests.py --loop rgunicorn.gevent.Loop --driver uring --compare FILE
    ci/gevent_tests.py --loop rgunicorn.gevent.Loop --quick                 what a change of the loop has to pass
    ci/gevent_tests.py --loop rgunicorn.gevent.Loop test__core_timer        one module, or some

Run it with the Python that has gevent (and rgunicorn) installed. The promise is relative: what passes on gevent's
default loop passes on ours. So every module runs in a process of its own (gevent's runner puts several into one),
in an environment like the one that gevent's runner makes, and `--compare` judges against a baseline of the same
machine. A module that fails is run again before it counts: some of gevent's tests measure time. What cannot apply,
what may fail anywhere and what `--quick` means stands, with reasons, in `gevent_tests.toml` beside this file.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

TABLES = Path(__file__).with_suffix(".toml")
OUR_LOOP = "rgunicorn.gevent.Loop"
# As gevent's runner: the slowest module takes about 40 s on two idle cores.
TIMEOUT_S = 100
# Which loop a process really has: a name that cannot be imported would otherwise be every module's failure.
PROBE = "import gevent; loop = gevent.get_hub().loop; print(type(loop).__module__, type(loop).__name__, loop.backend)"
# Settings of the shell must not decide what is tested.
FOREIGN = ("GEVENT", "PYTHON", "RGUNICORN")
RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
SKIPPED = re.compile(r"skipped=(\d+)")
BROKEN = re.compile(r"^(?:FAIL|ERROR): \S+ \((?:__main__\.)?([\w.]+)\)", re.MULTILINE)


@dataclass
class Result:
    """How one module went: its last run, and how many runs there were."""

    name: str
    status: str
    seconds: float
    ran: int
    skipped: int
    runs: int = 1
    broken: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether the module has passed."""
        return self.status == "ok"

    def excuse(self, tests: Collection[str]) -> None:
        """Let the module pass if its only failures are tests that may fail."""
        if self.status == "FAILED" and self.broken and all(f"{self.name}.{test}" in tests for test in self.broken):
            self.status, self.broken, self.excused = "ok", [], self.broken

    def line(self) -> str:
        """One line for the reader."""
        counts = f"{self.ran} tests, {self.skipped} skipped" if self.ran else "a script"
        again = f", run {self.runs}" if self.runs > 1 else ""
        excused = f", failed as it may: {', '.join(self.excused)}" if self.excused else ""
        return f"{self.status:9} {self.seconds:6.1f} s  {self.name} ({counts}{again}{excused})"


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def tests_dir() -> Path:
    """Where the installed gevent keeps its tests; importing them would already make a hub."""
    spec = find_spec("gevent")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"gevent is not installed for {sys.executable}")
    return Path(spec.submodule_search_locations[0]) / "tests"


def environment(loop: str, driver: str | None, folder: Path) -> dict[str, str]:
    """Return the environment that gevent's own runner gives to a test process, with our loop in it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    env |= {
        "GEVENT_LOOP": loop,
        # Network means hosts on the internet; which of them answer says nothing about a loop.
        "GEVENTTEST_USE_RESOURCES": "all,-network",
        "GEVENTTEST_QUIET": "True",
        # Modules import their neighbours by bare name.
        "PYTHONPATH": str(folder),
        "PYTHONFAULTHANDLER": "true",
        "PYTHONDEVMODE": "1",
        "PYTHONWARNINGS": "default,default::DeprecationWarning,default::ResourceWarning",
        # The installed package is shared by processes that run at the same time.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if driver:
        env["RGUNICORN_IO_DRIVER"] = driver
    return env


def end_session(leader: int) -> None:
    """Kill every process of a session: modules that fail leave children behind, in process groups of their own."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            stat = Path(f"/proc/{int(entry)}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[3]) == leader:
                os.kill(int(entry), signal.SIGKILL)


def run_once(name: str, env: dict[str, str]) -> Result:
    """One module in a process, a session and a directory of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gt") as scratch, open(Path(scratch, "output"), "wb+") as output:
        # A file and not a pipe: a child that a test forgot would hold a pipe open and look like a time-out.
        cwd = Path(scratch, "cwd")
        cwd.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", f"gevent.tests.{name}"], cwd=cwd, env=env | {"TMPDIR": scratch},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(TIMEOUT_S)
            # gevent's runner counts 5 as a pass: Python 3.12's word for "all tests were skipped".
            status = "ok" if code == 0 or (code == 5 and sys.version_info >= (3, 12)) else "FAILED"
            if code < 0:
                status = "crashed"
            ending = f"exit status {code}"
        except subprocess.TimeoutExpired:
            status, ending = "timed out", f"still running after {TIMEOUT_S} s"
            # The fault handler prints every thread's stack; what cannot be interrupted is then killed.
            process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        end_session(process.pid)
        process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    ran, skipped = RAN.findall(text), SKIPPED.findall(text)
    return Result(
        name, status, round(time.monotonic() - started, 1), sum(map(int, ran)), int(skipped[-1]) if skipped else 0,
        broken=BROKEN.findall(text), output=f"{text}\n[{ending}]",
    )  # fmt: skip


def run_all(
    names: Sequence[str], tables: dict, env: dict[str, str], jobs: int, retries: int, quiet: bool
) -> list[Result]:
    """Every module, `jobs` at a time, each again up to `retries` times while it fails."""

    def run_module(name: str) -> Result:
        for run in range(1, retries + 2):
            result = run_once(name, env)
            result.runs = run
            result.excuse(tables["may-fail"])
            if result.ok:
                break
        if not (quiet and result.ok):
            say(result.line())
        return result

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run_module, names))


def choose(arguments: argparse.Namespace, tables: dict, folder: Path) -> list[str]:
    """Return the modules to run; names given on the command line run whatever the tables say."""
    known = sorted(path.stem for path in folder.glob("test_*.py"))
    if arguments.modules:
        names = [Path(name).stem.rpartition("gevent.tests.")[2] for name in arguments.modules]
    elif arguments.quick:
        names = tables["quick"]["modules"]
    else:
        left_out = dict(tables["everywhere"])
        if arguments.loop != "libev-cext":
            left_out |= tables["other-loops"]
        if not arguments.quiet:
            for name, reason in left_out.items():
                say(f"left out          {name}: {reason}")
        names = [name for name in known if name not in left_out]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"this gevent has no {', '.join(unknown)}")
    return names


def is_worse(result: Result, before: dict | None) -> bool:
    """Whether a failure is news: of a module that passed, or of a test that passed in a module that did not."""
    if before is None or before["status"] == "ok":
        return True
    return result.status != before["status"] or bool(set(result.broken) - set(before["broken"]))


def compare(results: list[Result], baseline: dict[str, dict]) -> list[Result]:
    """Return the failures that count, of modules that pass in the baseline, and tell what else is different."""
    for result in results:
        before = baseline.get(result.name)
        if before is None:
            say(f"not in the baseline: {result.name}")
        elif not result.ok and not is_worse(result, before):
            say(f"fails in the baseline too: {result.name}")
        elif result.ok and before["status"] != "ok":
            say(f"fails in the baseline only: {result.name}")
        elif result.ok and result.ran - result.skipped < before["ran"] - before["skipped"]:
            # A pass that is worth less: gevent skips tests by the loop's name and features.
            say(f"fewer tests than in the baseline: {result.name}, {result.ran} with {result.skipped} skipped; "
                f"there {before['ran']} with {before['skipped']} skipped")  # fmt: skip
    return [result for result in results if not result.ok and is_worse(result, baseline.get(result.name))]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="only these, for example test__core_timer")
    parser.add_argument("--loop", default=OUR_LOOP, help="what GEVENT_LOOP is set to; default %(default)s")
    parser.add_argument("--driver", choices=("uring", "epoll"), help="what RGUNICORN_IO_DRIVER is set to")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="modules at a time; default %(default)s")
    parser.add_argument("--quick", action="store_true", help="those that are stable and quick, of every part of a loop")
    parser.add_argument("--quiet", action="store_true", help="no line for a module that passes")
    parser.add_argument("--retries", type=int, default=1, help="how often a failure is run again; default %(default)s")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="judge by a baseline: what passes there must pass")
    return parser.parse_args()


def main() -> int:
    """Run, report, and give the exit status: 1 if anything failed that has to pass."""
    arguments = parse_arguments()
    # A shell that runs us in the background has us ignore SIGINT, and the tests that wait for one would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tables = tomllib.loads(TABLES.read_text())
    baseline = json.loads(arguments.compare.read_text()) if arguments.compare else None
    folder = tests_dir()
    env = environment(arguments.loop, arguments.driver, folder)
    probe = subprocess.run([sys.executable, "-c", PROBE], env=env, capture_output=True, text=True, check=False)
    if probe.returncode:
        sys.exit(f"no hub with GEVENT_LOOP={arguments.loop}:\n{probe.stderr}")
    say(f"loop: {probe.stdout.strip()}")
    names = choose(arguments, tables, folder)
    results = run_all(names, tables, env, arguments.jobs, arguments.retries, arguments.quiet)
    failures = [result for result in results if not result.ok]
    for result in failures:
        say(f"\n======== {result.name}: {result.status}\n{result.output}")
    if arguments.save:
        records = {result.name: asdict(result) | {"output": ""} for result in results}
        arguments.save.write_text(json.dumps(records, indent=1, sort_keys=True))
    say("")
    for result in results:
        if result.ok and result.runs > 1:
            say(f"passed in run {result.runs} only: {result.name}")
    if baseline is not None:
        failures = compare(results, baseline)
    for result in failures:
        say(f"{result.status}: {result.name}")
    passed = sum(result.ok for result in results)
    counted = ", counted are those that do better in the baseline" if baseline is not None else ""
    say(f"{passed} passed, {len(failures)} failed{counted}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
