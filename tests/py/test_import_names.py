"""`import gunicorn` in the server's processes, and only there: rgunicorn's own, with and without Gunicorn installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import rgunicorn
from harness import APPS

pytestmark = [pytest.mark.one_driver, pytest.mark.own(reason="under Gunicorn the names are Gunicorn's")]

PACKAGE = Path(rgunicorn.__file__).parent
# What configuration files and embedding programs import.
NAMES = [
    "gunicorn", "gunicorn.app.base", "gunicorn.app.wsgiapp", "gunicorn.app.pasterapp", "gunicorn.arbiter",
    "gunicorn.config", "gunicorn.debug", "gunicorn.errors", "gunicorn.glogging", "gunicorn.instrument.statsd",
    "gunicorn.util", "gunicorn.workers", "gunicorn.workers.base", "gunicorn.workers.sync", "gunicorn.workers.gthread",
    "gunicorn.workers.ggevent", "gunicorn.http", "gunicorn.http.wsgi", "gunicorn.http.message",
]  # fmt: skip
CONFIG = f"""
import importlib, json
from gunicorn import SERVER_SOFTWARE, __version__, util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.config import Config
import gunicorn

gunicorn.SERVER = "shop"
with open("names.json", "w") as file:
    json.dump({{name: importlib.import_module(name).__file__ for name in {NAMES!r}}}, file)
"""
# A module that Python imports at its start: the installed Gunicorn cannot be found.
HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "gunicorn" and path is None:
            raise ModuleNotFoundError("No module named 'gunicorn'", name=name)
        return None

sys.meta_path.insert(0, Hide())
"""


def assert_ours(server):
    files = json.loads((server.workdir / "names.json").read_text())
    assert sorted(files) == sorted(NAMES)
    assert [name for name, file in files.items() if PACKAGE not in Path(file).parents] == []
    assert server.get("/").header("Server") == "shop"


def test_a_configuration_file_gets_our_names(launch):
    assert importlib.util.find_spec("gunicorn") is not None
    assert_ours(launch("http_app:app", config=CONFIG))


def test_without_gunicorn(launch, workdir):
    (workdir / "sitecustomize.py").write_text(HIDDEN)
    env = {"PYTHONPATH": f"{workdir}:{APPS}"}
    assert_ours(launch("http_app:app", config=CONFIG, env=env, workdir=workdir))


def where(*modules):
    """The file that `gunicorn` is in a process that imports these first."""
    lines = "".join(f"import {module}\n" for module in [*modules, "gunicorn"])
    command = [sys.executable, "-c", lines + "print(gunicorn.__file__)"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def test_other_programs_get_the_real_one():
    installed = where()
    assert PACKAGE not in installed.parents
    assert where("rgunicorn", "rgunicorn.glogging", "rgunicorn.app.base") == installed


def test_programs_that_ask_for_ours_get_it():
    assert PACKAGE in where("rgunicorn.compat").parents
