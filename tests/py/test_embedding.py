"""Programs that subclass the application classes and run the server themselves (tests/apps/embedded.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conf_files import PASTE_LOGGING, events, facts, notes, wait_notes
from conftest import launcher
from harness import APPS, Flavour, environment, wait_for
from rawhttp import TIMEOUT_S

pytestmark = pytest.mark.one_driver

DRIVER = "--io-driver"


@dataclass(frozen=True)
class Embedded(Flavour):
    """A program with the classes of a server's package."""

    kind: str

    def command(self) -> list[str]:
        return [sys.executable, str(APPS / "embedded.py"), self.kind, self.program]


class Programs:
    """Starts programs on the classes of one server."""

    def __init__(self, flavour, workdir, launch):
        self.flavour, self.workdir, self._launch = flavour, workdir, launch

    def write(self, **options):
        """What the program reads: the server's type of worker is given to it as an option."""
        given = dict(zip(self.flavour.options, self.flavour.options[1:], strict=False))
        base = {"bind": "127.0.0.1:0", "worker_class": given["-k"], "threads": int(given.get("--threads", 1))}
        if not self.flavour.own:
            base["control_socket_disable"] = True
        (self.workdir / "options.json").write_text(json.dumps(base | options))

    def environment(self):
        """The engine by the environment: these programs have no command line."""
        options = self.flavour.options
        return {"RGUNICORN_IO_DRIVER": options[options.index(DRIVER) + 1]} if DRIVER in options else {}

    def embedded(self, kind):
        return Embedded(self.flavour.name, self.flavour.program, (), kind)

    def start(self, kind, deaths=False, at=None, **options):
        """Start a program and wait until its server listens; `at`: there, and it does not say so."""
        self.write(**options)
        launch = self._launch(self.embedded(kind))
        return launch(None, bind=None, workdir=self.workdir, deaths=deaths, at=at, env=self.environment())

    def run(self, kind, **options):
        """Run one to its end."""
        self.write(**options)
        return subprocess.run(
            self.embedded(kind).command(), cwd=self.workdir, env=environment(self.environment()), timeout=TIMEOUT_S,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip


@pytest.fixture
def programs(flavour, workdir):
    running = []

    def launch(embedded):
        running.append(launcher(embedded, lambda: workdir))
        return next(running[-1])

    yield Programs(flavour, workdir, launch)
    for generator in running:
        # Runs its promise that every server is closed.
        assert next(generator, None) is None


def answer(server, path="/"):
    response = server.get(path)
    assert response.status == 200, response
    return json.loads(response.body)


def test_a_standalone_application(programs):
    server = programs.start("standalone", workers=2, keyfile=None, nonsense="ignored by the program")
    pids = server.wait_workers(2)
    wait_for("answers of both", lambda: pids.remove(pid) if (pid := answer(server)["pid"]) in pids else not pids)
    assert answer(server, "/path")["path"] == "/path"
    assert server.terminate() == 0
    assert "not reached" not in server.stdout.read_text()
    # Loaded in each worker, configured once.
    assert events(notes(server), server.pid) == ["load_config"]
    assert len(notes(server, "load")) == 2
    assert notes(server, "load_config")[0]["settings"]


def test_a_standalone_application_preloaded(programs):
    server = programs.start("standalone", workers=2, preload_app=True)
    answer(server)
    assert server.terminate() == 0
    assert events(notes(server)) == ["load_config", "load"]
    assert {note["pid"] for note in notes(server)} == {server.pid}


def test_hooks_and_reload(programs):
    server = programs.start("reloading", workers=1, word="one")
    first = answer(server)
    assert first["word"] == "one"
    assert facts(notes(server, "when_ready")[0]) == {"same": True, "workers": 1}
    assert facts(notes(server, "post_fork")[0]) == {"same": True}
    seen = len(notes(server))
    programs.write(workers=2, word="two")
    server.kill(signal.SIGHUP)
    server.wait_workers(2, without=[first["pid"]])
    wait_for("the new word", lambda: answer(server)["word"] == "two")
    assert events(notes(server)[seen:], server.pid) == ["load_config", "on_reload"]
    wait_notes(server, "load", 3)
    assert server.terminate() == 0
    assert events(notes(server))[-1] == "on_exit"


def test_a_server_runner_of_paste_takes_the_logging_of_its_file(programs):
    (programs.workdir / "shop.ini").write_text(PASTE_LOGGING)
    path = str(programs.workdir / "server.sock")
    server = programs.start("paste", at=path, bind="unix:server.sock", workers=1)
    assert answer(server, "/path")["path"] == "/path"
    assert "by paste: Booting worker with pid" in (programs.workdir / "paste.log").read_text()
    assert server.terminate() == 0


def test_reload_of_a_preloaded_application(programs):
    """Options are new, the application is the old one."""
    server = programs.start("reloading", workers=1, word="one", preload_app=True)
    first = answer(server)
    programs.write(workers=2, word="two", preload_app=True)
    server.kill(signal.SIGHUP)
    server.wait_workers(2, without=[first["pid"]])
    wait_for("a new worker", lambda: answer(server)["pid"] != first["pid"])
    assert answer(server)["word"] == "one"
    assert len(notes(server, "load")) == 1
    assert len(notes(server, "load_config")) == 2


def test_an_application_that_cannot_load(programs):
    done = programs.run("failing")
    assert done.returncode == 3, done.stderr
    assert "ValueError: cannot load" in done.stderr
    assert "Worker failed to boot" in done.stderr


def test_an_application_that_cannot_load_in_the_master(programs):
    done = programs.run("failing", preload_app=True)
    assert done.returncode == 1
    assert "ValueError: cannot load" in done.stderr
    assert "not reached" not in done.stdout


@pytest.mark.parametrize(
    ("options", "words"), [({"workers": "many"}, "many"), ({"proc_name": 42}, "42"), ({"umask": {}}, "")]
)
def test_an_invalid_option(programs, options, words):
    done = programs.run("standalone", **options)
    assert done.returncode == 1
    assert done.stderr.startswith("\nError: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_base_class_alone(programs):
    done = programs.run("incomplete")
    assert done.returncode == 1
    assert done.stderr == "\nError: \n"


def test_an_application_by_its_name(programs):
    server = programs.start("named", workers=1, proc_name="named")
    assert server.get("/created").status == 201
    assert server.terminate() == 0


def test_a_program_with_a_command_line(programs):
    """Above its own values stands the file, above the file the command line."""
    (programs.workdir / "gunicorn.conf.py").write_text("workers = 2\nkeepalive = 0\n")
    server = programs.start("command", workers=5, timeout=77, argv=["--log-level", "debug", "--timeout", "66", "word"])
    server.wait_log(r"(?m)^  timeout: 66$")
    server.wait_log(r"(?m)^  workers: 2$")
    server.wait_log(r"(?m)^  keepalive: 0$")
    assert notes(server, "init")[0]["args"] == ["word"]
    assert answer(server)["path"] == "/"
    assert server.terminate() == 0


@pytest.mark.parametrize(("argv", "status"), [(["--nonsense"], 2), (["--help"], 0), (["--version"], 0)])
def test_the_command_line_of_a_program(programs, argv, status):
    done = programs.run("command", argv=argv)
    assert done.returncode == status
    assert "team" in done.stdout + done.stderr


def test_running_as_the_command_does(programs):
    argv = ["--bind", "127.0.0.1:0", "--workers", "1", *programs.flavour.options, "team_app:app"]
    server = programs.start("run", argv=argv)
    pid = server.worker_pid()
    server.kill(signal.SIGHUP)
    server.wait_workers(1, without=[pid])
    wait_for("the new worker", lambda: server.worker_pid() != pid)
    assert server.terminate() == 0


def test_workers_are_its_children_only(programs):
    """A program's own children are none of the server's business."""
    server = programs.start("standalone", workers=1)
    pid = answer(server)["pid"]
    os.kill(pid, signal.SIGTERM)
    server.wait_workers(1, without=[pid])
    assert answer(server)["pid"] != pid
    assert server.terminate() == 0


CONF = """
proc_name = "from a module"
timeout = 33
"""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-m", "007"], {"umask": 7}),
        (["-m", "0x1F"], {"umask": 31}),
        (["-m", "22"], {"umask": 22}),
        (["-m", "0o22"], {"umask": 18}),
        (["--control-socket-mode", "0640"], {"mode": 0o640}),
        (["-c", "python:team_conf"], {"name": "from a module"}),
        (["-c", "file:team_conf.py"], {"name": "from a module"}),
        (["-c", "team_conf.py", "-n", "by hand"], {"name": "by hand"}),
    ],
    ids=" ".join,
)
def test_forms_of_a_programs_command_line(programs, argv, expected):
    (programs.workdir / "team_conf.py").write_text(CONF)
    (programs.workdir / "gunicorn.conf.py").unlink(missing_ok=True)
    server = programs.start("command", argv=argv)
    answer(server)
    (note,) = notes(server, "loaded")
    assert {key: note[key] for key in expected} == expected


@pytest.mark.parametrize("argv", [["-m", "09"], ["-m", "many"]], ids=" ".join)
def test_a_mode_that_is_none(programs, argv):
    done = programs.run("command", argv=argv)
    assert done.returncode == 2, done.stderr
