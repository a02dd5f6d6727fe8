"""The table of settings against the installed Gunicorn's, and the page that is made of it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import FLAVOURS, Flavour
from rgunicorn import _rgunicorn

ROOT = Path(__file__).resolve().parents[2]
# What differs, and is meant to: see docs/gunicorn-differences.md.
DEFAULTS_THAT_DIFFER = {
    "control_socket": "there is none unless it is asked for",
    "chdir": "of the machine",
    "user": "of the machine",
    "group": "of the machine",
}
OWN = {
    "io_driver", "frame_cache_chunks", "loop_block_warning", "boot_timeout", "header_timeout", "body_timeout",
    "write_timeout", "abandon_timeout", "handoff", "handoff_after_ms", "access_log_json", "access_log_exclude",
    "gevent_sockets", "no_new_privs", "limit_request_body", "limit_request_memory", "evict_after", "body_min_rate",
}  # fmt: skip

pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="Gunicorn is not installed"),
]


@pytest.fixture(scope="module")
def theirs():
    """Gunicorn's settings by name, as a process of its own sees them."""
    script = (
        "import gunicorn.config as c, json\n"
        "print(json.dumps({s.name: [s.section, s.cli or [], s.meta or '', s.nargs or ''] for s in c.KNOWN_SETTINGS}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ours():
    return {row[0]: row for row in _rgunicorn._settings_table()}


def test_the_names(ours, theirs):
    assert set(ours) - OWN == set(theirs)
    assert set(ours) >= OWN


def test_the_flags(ours, theirs):
    for name, (_, flags, _, _) in theirs.items():
        assert sorted(ours[name][3]) == sorted(flags), name


def values(flavour: Flavour, *args: str) -> dict[str, str]:
    """What `--print-config` shows."""
    command = [flavour.path, "--print-config", *args, "wsgi_app:app"]
    env = {key: value for key, value in os.environ.items() if key not in ("PORT", "WEB_CONCURRENCY")}
    env["PYTHONPATH"] = str(ROOT / "tests" / "apps")
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT / "tests" / "apps", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        found[name.strip()] = value.removeprefix(" ")
    return found


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("-w", "3", "--threads", "2", "-b", "127.0.0.1:9", "--bind", "unix:x", "-t", "7", "--no-sendfile"),
        ("--proxy-protocol", "v1", "--umask", "0o22", "--log-level", "debug", "-e", "A=B", "--env", "C=D"),
        ("--access-logfile", "-", "--reload", "--name", "x", "--keep-alive", "5", "--statsd-host", "localhost:8125"),
    ],
    ids=["nothing", "workers", "mechanics", "logs"],
)
def test_print_config(args):
    mine, reference = values(FLAVOURS["rgunicorn-uring"], *args), values(FLAVOURS["gunicorn"], *args)
    assert list(mine) == sorted(mine)
    assert set(mine) - set(reference) == OWN
    for name, value in reference.items():
        if name not in DEFAULTS_THAT_DIFFER:
            assert mine[name] == value, name


def page(flavour: Flavour) -> str:
    return subprocess.run([flavour.path, "--help"], capture_output=True, text=True, check=True).stdout


def flags_of(text: str) -> set[str]:
    """What begins an entry of a page of help."""
    entries = re.findall(r"^  (-.*?)(?:  |$)", text, re.MULTILINE)
    return {flag for entry in entries for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", entry)}


def test_the_flags_of_the_help(ours):
    mine, reference = flags_of(page(FLAVOURS["rgunicorn-uring"])), flags_of(page(FLAVOURS["gunicorn"]))
    assert len(reference) > 100
    assert reference <= mine
    assert mine - reference == {flag for name in OWN for flag in ours[name][3]}


def test_settings_without_flags_are_in_the_help(ours):
    text = page(FLAVOURS["rgunicorn-uring"])
    assert [name for name in ours if not ours[name][3] and f"({name})" not in text] == []


def test_the_page_is_up_to_date():
    env = {key: value for key, value in os.environ.items() if key not in ("PORT", "WEB_CONCURRENCY", "SENDFILE")}
    script = ROOT / "ci" / "settings_doc.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
