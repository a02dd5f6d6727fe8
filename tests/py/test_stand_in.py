"""The distribution `rgunicorn-as-gunicorn`: programs that start or import Gunicorn get rgunicorn (``stand-in/``)."""

from __future__ import annotations

import json
import signal
import tarfile
import tomllib
import zipfile

import pytest
import rgunicorn
from conftest import launcher
from harness import APPS, wait_for
from masters import upgrade
from rgunicorn import compat
from stand_ins import NAME, SOURCE, Environment, Start, build, real_wheel

pytestmark = [pytest.mark.one_driver, pytest.mark.own(reason="of rgunicorn's own distribution")]

BOTH = "are both installed"
PASTE = """
from importlib.metadata import distribution
(point,) = distribution("gunicorn").entry_points.select(group="paste.server_runner")
assert point.load().__module__ == "rgunicorn.app.pasterapp"
"""
PROGRAM = {"bind": "127.0.0.1:0", "workers": 2}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist."""
    clean = Environment(tmp_path_factory.mktemp("clean") / "env")
    return build(clean, tmp_path_factory.mktemp("dist"))


@pytest.fixture
def empty(tmp_path):
    """An environment without the stand-in."""
    return Environment(tmp_path / "env")


def with_stand_in(environment, built):
    done = environment.pip("install", str(built[0]))
    assert done.returncode == 0, done.stderr
    return environment


@pytest.fixture(scope="module")
def shared(tmp_path_factory, built):
    """An environment with the stand-in that no test changes."""
    return with_stand_in(Environment(tmp_path_factory.mktemp("shared") / "env"), built)


@pytest.fixture
def own(tmp_path, built):
    """An environment with the stand-in that a test may change."""
    return with_stand_in(Environment(tmp_path / "env"), built)


# What is built.


def test_versions_agree():
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    assert project["project"]["version"] == rgunicorn.__version__
    assert project["project"]["dependencies"] == [f"rgunicorn=={rgunicorn.__version__}"]
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["follows"] == compat.FOLLOWED
    assert (SOURCE / "LICENSE").read_text() == (SOURCE.parent / "LICENSE").read_text()


def test_what_is_in_the_files(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in names if name.startswith("gunicorn/")] == ["gunicorn/__init__.py"]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        # Hatchling adds the file that it looked at.
        names = {name.partition("/")[2] for name in archive.getnames()} - {".gitignore"}
    assert names == {"LICENSE", "PKG-INFO", "README.md", "gunicorn/__init__.py", "hatch_build.py", "pyproject.toml"}


# Names.


@pytest.mark.parametrize(
    "code",
    [
        "import gunicorn; assert gunicorn.__version__ == {followed!r}",
        "import gunicorn.app.base as base; assert base.BaseApplication.__module__ == 'rgunicorn.app.base'",
        "from gunicorn.app.wsgiapp import WSGIApplication, run",
        "import gunicorn.http.errors, gunicorn.workers.sync, gunicorn.util",
        "from importlib.util import find_spec; assert find_spec('gunicorn') and find_spec('gunicorn.arbiter')",
        "from importlib import import_module; assert import_module('gunicorn.config').Config().address",
        "import sys, gunicorn, rgunicorn.compat; assert sys.modules['gunicorn'] is gunicorn",
        "import rgunicorn.compat, gunicorn, sys; assert sys.modules['gunicorn'] is gunicorn",
        "import pickle; from gunicorn.config import Config; assert pickle.loads(pickle.dumps(Config)) is Config",
        "from importlib.metadata import version; assert version('gunicorn').split('+')[0] == {followed!r}",
        PASTE,
    ],
)
def test_names(shared, code):
    done = shared.eval(code.format(followed=compat.FOLLOWED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import gunicorn.dirty", "ModuleNotFoundError: 'gunicorn' is rgunicorn's package here"),
        ("from gunicorn.util import no_such", "ImportError: 'gunicorn' is rgunicorn's package here"),
        ("import gunicorn; gunicorn.no_such", "AttributeError: 'gunicorn' is rgunicorn's package here"),
    ],
)
def test_names_that_are_not_offered(shared, code, error):
    done = shared.eval(code)
    assert done.returncode == 1
    assert error in done.stderr


# Starts.


def starts(environment):
    """The words that start a server there."""
    return {
        "command": (str(environment.path / "bin/gunicorn"),),
        "module": (environment.python, "-m", "gunicorn"),
        "program": (environment.python, str(APPS / "embedded.py"), "standalone", "gunicorn"),
    }


@pytest.fixture(params=["command", "module", "program"])
def started(request, shared, flavour, tmp_path):
    """A server with two workers that was started in this way."""
    is_program = request.param == "program"
    options = () if is_program else flavour.options
    serve = launcher(Start(flavour.name, flavour.program, options, starts(shared)[request.param]), lambda: tmp_path)
    (tmp_path / "options.json").write_text(json.dumps(PROGRAM))
    launch = next(serve)
    yield launch(None, bind=None) if is_program else launch("life:app", "-w", "2")
    next(serve, None)


def wait_served(server, pids):
    """Wait until a worker of these has answered."""
    wait_for("an answer", lambda: server.get("/pid").status == 200)
    assert set(server.workers()) >= set(pids)


def test_a_start_and_its_signals(started):
    old = started.wait_workers(2)
    wait_served(started, old)
    assert f"Starting rgunicorn {rgunicorn.__version__}" in started.log
    started.kill(signal.SIGHUP)
    new = started.wait_workers(2, without=old)
    wait_served(started, new)
    assert started.terminate() == 0


def test_an_upgrade(started):
    wait_served(started, started.wait_workers(2))
    new = upgrade(started)
    wait_served(new, new.wait_workers(2))
    assert started.terminate() == 0
    wait_served(new, new.wait_workers(2))
    new.terminate()


@pytest.mark.parametrize("way", ["command", "module"])
def test_runs_that_end(shared, way):
    words = starts(shared)[way]
    done = shared.run(*words, "--version")
    assert done.stdout == f"rgunicorn (version {rgunicorn.__version__})\n"
    assert shared.run(*words, "--check-config", "life:app").returncode == 0
    done = shared.run(*words, "--workers", "none", "life:app")
    assert done.returncode == 2
    assert "workers" in done.stderr


def test_worker_classes_of_others_need_the_real_one(shared):
    done = shared.run(*starts(shared)["command"], "-b", "127.0.0.1:0", "-k", "tornado", "life:app")
    assert done.returncode == 1
    assert "pip uninstall rgunicorn-as-gunicorn" in done.stderr


# Beside the real one.


def test_pip_finds_that_gunicorn_is_there(own):
    before = own.names()
    done = own.pip("install", "gunicorn>=22")
    assert "already satisfied: gunicorn>=22" in done.stdout
    assert own.names() == before
    assert own.pip("check").returncode == 0


def test_pip_puts_the_real_one_in_its_place(own, flavour, tmp_path):
    assert own.pip("install", str(real_wheel(tmp_path))).returncode == 0
    assert own.names() == {"gunicorn==26.0", f"{NAME}=={rgunicorn.__version__}"}
    assert own.run(own.python, "-m", "gunicorn").stdout == "the real one\n"
    # Only rgunicorn can say now that the stand-in has no effect.
    start = Start(flavour.name, flavour.program, flavour.options, (own.python, "-m", "rgunicorn"))
    serve = launcher(start, lambda: tmp_path)
    server = next(serve)("life:app")
    line = server.wait_log(f"WARNING.*{BOTH}.*")
    assert "get Gunicorn's own." in line[0]
    next(serve, None)


@pytest.mark.parametrize("name", ["gunicorn", NAME])
def test_uninstalling_it(own, name):
    assert own.pip("uninstall", name).returncode == 0
    assert not (own.site / "gunicorn" / "__init__.py").exists()
    assert not any(one.startswith("gunicorn==") for one in own.names())


def test_the_build_refuses_the_real_one(empty, tmp_path):
    assert empty.pip("install", str(real_wheel(tmp_path))).returncode == 0
    done = empty.pip("install", str(SOURCE), **empty.builds())
    assert done.returncode == 1
    assert "gunicorn 26.0 is installed in" in done.stderr
    assert "pip uninstall gunicorn" in done.stderr
    assert empty.names() == {"gunicorn==26.0"}


def test_a_wheel_upon_the_real_one_says_who_has_won(empty, built, tmp_path):
    assert empty.pip("install", str(real_wheel(tmp_path))).returncode == 0
    assert empty.pip("install", "--no-deps", str(built[0])).returncode == 0
    done = empty.run(empty.python, "-m", "gunicorn", "--version")
    assert done.stdout == f"rgunicorn (version {rgunicorn.__version__})\n"
    (line,) = done.stderr.splitlines()
    assert BOTH in line
    assert "get rgunicorn's." in line
