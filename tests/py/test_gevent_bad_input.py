"""Nonsense given to the loop, to its watchers and to `-k gevent` is refused by name, and ends nothing else.

What libev's loop, gevent's own, says to the same nonsense is the measure: `tests/apps/bad_input.py` runs on both.
"""

import json
import os
import re
import subprocess
import sys

import pytest
from harness import APPS, environment, run_to_end
from rawhttp import TIMEOUT_S

pytestmark = pytest.mark.own

SHARED_GROUPS = ["descriptors", "times", "signals", "children", "files", "attributes", "closed", "errors", "destroyed"]
# Where we differ from libev, and what we say.
DIFFERENT = {
    # It makes something of the low 32 bits; and the other way round.
    "io not 32 bits": "OverflowError",
    "io events -1": "OverflowError",
    "io events 2147483648": "ValueError",
    # It aborts the process at the start.
    "io set fd negative": "ValueError",
    # It calls None later.
    "timer again None": "TypeError",
    # It wants text.
    "stat bytes": "made",
    "set loop": "AttributeError",
}
# It makes watchers of a loop that has gone, and cannot let go of those that it has made.
DIFFERENT |= {
    f"destroyed loop {name}": "ValueError"
    for name in ("io", "timer", "signal", "idle", "prepare", "check", "fork", "async_", "stat")
}
DIFFERENT |= {
    f"{name} of a destroyed loop, {what}": "None"
    for name in ("io", "timer", "idle", "prepare", "check", "fork", "async_", "stat", "running timer", "running io")
    for what in ("stop", "close")
}
DIFFERENT |= {f"running {name} of a destroyed loop, active": "False" for name in ("io", "timer")}

# What libev does not survive, or does not look at.
NUMBERS = {
    "timer after nan": "ValueError",
    "timer repeat nan": "ValueError",
    "sleep nan": "ValueError",
    "Timeout nan": "ValueError",
    "io set fd above the limit": "OSError",
    "io start after fd above the limit": "None active",
    "io set fd closed": "OSError",
    "io start after fd closed": "None active",
    "signal 9 start": "OSError",
    "signal 19 start": "OSError",
    "child -1 start": "None active",
}
THREADS = {
    "timer start elsewhere": "InvalidThreadUseError",
    "timer stop elsewhere": "None",
    "io start elsewhere": "InvalidThreadUseError",
    "io stop elsewhere": "None",
    "run elsewhere": "InvalidThreadUseError",
    "child elsewhere": "TypeError",
    "callbacks of both threads": "[1, 2]",
}
ENDS = {
    "destroyed by a run within a run": "None",
    "destroyed by a run within a run, default": "0",
    "events after the end of a hub": "True",
    "descriptors of forgotten loops": "0",
    "a forgotten loop's signal": "None active",
    "a forgotten loop's children": "None",
}
ALIVE = {"a timer in the end": "called"}


def outcomes(loop, driver, group):
    """What became of each case of a group."""
    settings = {"GEVENT_LOOP": loop, "RGUNICORN_IO_DRIVER": driver}
    command = [sys.executable, str(APPS / "bad_input.py"), group]
    done = subprocess.run(
        command, check=False, env=environment(settings), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"
    assert "panicked" not in done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("group", SHARED_GROUPS)
@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_as_libev(driver, group):
    expected = outcomes("libev-cext", driver, group)
    changed = {name: value for name, value in DIFFERENT.items() if name in expected}
    found = outcomes("rgunicorn.gevent.Loop", driver, group)
    assert found == expected | changed
    # None of the differences is out of date.
    assert not [name for name, value in changed.items() if expected[name] == value]


@pytest.mark.parametrize(
    ("group", "expected"),
    [("numbers", NUMBERS), ("threads", THREADS), ("ends", ENDS)],
    ids=["numbers", "threads", "ends"],
)
@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_what_libev_does_not_survive(driver, group, expected):
    assert outcomes("rgunicorn.gevent.Loop", driver, group) == expected | ALIVE


# Packages that are not what they should be.


def metadata(directory, name, version):
    """Makes a package seem to be installed in that version."""
    info = directory / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def broken(directory, name, text):
    (directory / name).mkdir()
    (directory / name / "__init__.py").write_text(text)


HIDDEN = "raise ImportError('hidden by the test')\n"
# `sitecustomize` runs before everything else; a package that is not there has no metadata.
NOT_INSTALLED = """
import importlib.metadata
real = importlib.metadata.distribution

def distribution(name):
    if name == {name!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

importlib.metadata.distribution = distribution
"""

REFUSED = {
    "gevent missing": (lambda path: hide(path, "gevent"), "gevent is not installed"),
    "greenlet missing": (lambda path: hide(path, "greenlet"), "greenlet is not installed"),
    "gevent too old": (lambda path: metadata(path, "gevent", "23.9.0"), "gevent 23.9.0 is too old (24.10.1 or later"),
    "greenlet too old": (lambda path: metadata(path, "greenlet", "2.0.2"), "greenlet 2.0.2 is too old (3.0.0 or later"),
    "gevent broken": (lambda path: broken(path, "gevent", HIDDEN), "gevent cannot be imported: ImportError: hidden by"),
    "greenlet broken": (lambda path: broken(path, "greenlet", HIDDEN), "gevent cannot be imported: ImportError: hid"),
}  # fmt: skip


def hide(directory, name):
    (directory / "sitecustomize.py").write_text(NOT_INSTALLED.format(name=name))
    broken(directory, name, HIDDEN)


@pytest.fixture(params=list(REFUSED))
def refused(request, tmp_path):
    """An environment in which greenlets cannot be had, and why."""
    make, reason = REFUSED[request.param]
    make(tmp_path)
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{APPS}"}, reason


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_the_gevent_worker_says_what_it_needs(gevent_flavour, workdir, refused, options):
    env, reason = refused
    done = run_to_end(gevent_flavour, workdir, "--bind", "127.0.0.1:0", *options, "life:app", env=env)
    assert done.returncode == 1, done.stderr
    assert reason in done.stderr
    assert "pip install 'rgunicorn[gevent]'" in done.stderr
    assert not re.search("Listening|Booting|Traceback|panicked", done.stderr), done.stderr


USES = {
    # An application that can do without, as so many libraries do.
    "tries": "try:\n    import gevent\nexcept ImportError:\n    pass\n",
    "does not": "",
    "patches": "from gevent import monkey\nmonkey.patch_all()\n",
}


def launch_with(launch, workdir, env, code):
    """A server whose application runs this first."""
    (workdir / "changed_app.py").write_text(f"{code}from life import app\n")
    env["PYTHONPATH"] += f"{os.pathsep}{workdir}"
    server = launch("changed_app:app", "--log-level", "debug", env=env)
    server.worker_pid()
    assert not re.search("Traceback|panicked", server.log), server.log
    return server


def one_by_one(server):
    """Why requests run one by one: the level and the text of each line that says so."""
    return re.findall(r"\[(\w+)\] Worker \d+ runs one request at a time: (.*)", server.log)


@pytest.mark.parametrize("uses", ["tries", "does not"])
@pytest.mark.parametrize("missing", ["gevent missing", "gevent broken", "greenlet missing"])
@pytest.mark.one_thread
def test_the_uring_worker_does_without_gevent(launch, workdir, tmp_path, missing, uses):
    REFUSED[missing][0](tmp_path)
    server = launch_with(launch, workdir, {"PYTHONPATH": f"{tmp_path}{os.pathsep}{APPS}"}, USES[uses])
    assert one_by_one(server) == [("DEBUG", "the application does not use gevent")]
    assert "WARNING" not in server.log


@pytest.mark.parametrize("old", ["gevent too old", "greenlet too old"])
@pytest.mark.one_thread
def test_the_uring_worker_does_without_an_old_gevent(launch, workdir, tmp_path, old):
    make, reason = REFUSED[old]
    make(tmp_path)
    server = launch_with(launch, workdir, {"PYTHONPATH": f"{tmp_path}{os.pathsep}{APPS}"}, USES["patches"])
    [(level, text)] = one_by_one(server)
    assert level == "WARNING"
    assert text.startswith(reason)
    assert text.endswith("; pip install 'rgunicorn[gevent]'")


# Applications that are patched, but not all over.

PATCHED = {
    "nothing": ("import gevent.monkey", "DEBUG", "gevent is imported, but nothing is patched"),
    "no sockets": ("patch_thread()", "WARNING", "gevent has not patched socket, which"),
    "no threads": ("patch_socket()", "WARNING", "gevent has not patched threading, which"),
    "neither": ("patch_time()", "DEBUG", "gevent is imported, but nothing is patched"),
}


@pytest.mark.parametrize("what", list(PATCHED))
@pytest.mark.one_thread
def test_too_little_is_patched(launch, workdir, what):
    call, level, reason = PATCHED[what]
    code = f"from gevent import monkey\nmonkey.{call}\n" if call.endswith(")") else f"{call}\n"
    server = launch_with(launch, workdir, {"PYTHONPATH": str(APPS)}, code)
    [(found, text)] = one_by_one(server)
    assert found == level
    assert text.startswith(reason)


def test_what_is_not_patched_and_blocks_is_named(launch, workdir):
    code = "from gevent import monkey\nmonkey.patch_all(subprocess=False, queue=False)\n"
    server = launch_with(launch, workdir, {"PYTHONPATH": str(APPS)}, code)
    assert one_by_one(server) == []
    assert re.search(r"\[INFO\] Worker \d+ runs requests in greenlets \(gevent ", server.log), server.log
    named = re.findall(r"\[WARNING\] Not patched by gevent: (.*)\. Where the application waits", server.log)
    assert named == ["subprocess, queue"]
