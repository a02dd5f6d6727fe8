"""Exceptions in hooks: what they end, with which status, and what is said."""

import os
import signal

import pytest
from conf_files import notes, wait_notes
from harness import run_to_end, wait_for

pytestmark = pytest.mark.one_driver

RAISING = """
from hooklog import record

def {hook}({arguments}):
    record("{hook}")
    raise {exception}
"""
ARGUMENTS = {
    "pre_fork": "server, worker",
    "post_fork": "server, worker",
    "worker_exit": "server, worker",
    "child_exit": "server, worker",
    "nworkers_changed": "server, new, old",
    "pre_request": "worker, req",
    "post_request": "worker, req, environ, resp",
    "post_worker_init": "worker",
    "worker_int": "worker",
    "worker_abort": "worker",
}


def raising(hook, exception='ValueError("raised in the hook")'):
    """A configuration whose hook raises."""
    return RAISING.format(hook=hook, arguments=ARGUMENTS.get(hook, "server"), exception=exception)


def launched(launch, hook, *args, deaths=False, **options):
    """A server whose hook raises, once a worker has answered."""
    server = launch("team_app:app", *args, config=raising(hook, **options), deaths=deaths)
    pid = server.worker_pid() if hook != "pre_request" else wait_for("a worker", server.workers)[0]
    server.settle()
    return server, pid


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        ("nworkers_changed", 1),
        ("on_starting", 1),
        ("when_ready", 1),
        ("pre_fork", 255),
        ("post_fork", 3),
        ("post_worker_init", 3),
    ],
)
def test_errors_that_end_the_start(flavour, workdir, hook, status):
    (workdir / "conf.py").write_text(raising(hook))
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--config", "conf.py", "team_app:app")
    assert done.returncode == status, done.stderr
    assert "ValueError: raised in the hook" in done.stderr
    assert f"in {hook}\n" in done.stderr
    if status == 3:
        assert "Worker failed to boot" in done.stderr
    if status == 255:
        assert "Unhandled exception in main loop" in done.stderr


@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
def test_a_runtime_error_is_told_in_one_line(flavour, workdir, hook):
    (workdir / "conf.py").write_text(raising(hook, 'RuntimeError("no licence")'))
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--config", "conf.py", "team_app:app")
    assert done.returncode == 1
    assert "\nError: no licence\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("hook", ["on_starting", "when_ready", "pre_fork"])
def test_a_hook_may_end_the_master(flavour, workdir, hook):
    (workdir / "conf.py").write_text(raising(hook, "SystemExit(7)"))
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--config", "conf.py", "team_app:app")
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


def test_the_pid_file_is_removed_after_an_error_of_the_loop(flavour, workdir):
    (workdir / "conf.py").write_text(raising("pre_fork"))
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "-p", "pid", "--config", "conf.py", "team_app:app")
    assert done.returncode == 255
    assert not (workdir / "pid").exists()


def test_pre_request(launch):
    server, pid = launched(launch, "pre_request")
    response = server.get("/created")
    assert response.status == 500
    assert b"Internal Server Error" in response.body
    server.wait_log(r"\[ERROR\] Error handling request GET /created")
    server.wait_log("ValueError: raised in the hook")
    assert server.get("/").status == 500
    assert server.workers() == [pid]


TOLD = """
def post_request(worker, req, environ, resp):
    record("post_request", path=req.path, environ=len(environ), resp=resp)

logconfig_dict = {
    "formatters": {"named": {"format": "%(name)s: %(message)s"}},
    "handlers": {"named": {"class": "logging.StreamHandler", "formatter": "named"}},
    "root": {"level": "INFO", "handlers": ["named"]},
    "loggers": {
        name: {"level": "INFO", "handlers": ["named"], "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access")
    },
}
"""


def test_what_pre_request_refuses_is_told_of(launch):
    """`post_request` and the access log hear of it, as of a request that was answered."""
    config = raising("pre_request") + TOLD
    server = launch("team_app:app", config=config)
    assert server.get("/created").status == 500
    (note,) = wait_notes(server, "post_request")
    assert (note["path"], note["environ"], note["resp"]) == ("/created", 0, None)
    server.wait_log(r'gunicorn\.access: \S+ - - \[[^]]*\] "GET /created HTTP/1\.1" 500 0 "-" "-"')


def test_post_request(launch):
    server, pid = launched(launch, "post_request")
    with server.client() as client:
        assert client.get("/created").status == 201
        assert client.get("/").body == b"hello"
    server.wait_log(r"\[ERROR\] Exception in post_request hook", count=3)
    server.wait_log("ValueError: raised in the hook", count=3)
    assert server.workers() == [pid]


def test_worker_exit(launch):
    server, pid = launched(launch, "worker_exit")
    os.kill(pid, signal.SIGTERM)
    server.wait_log(r"(?s)\[WARNING\] Exception during worker exit:\nTraceback.*ValueError: raised in the hook")
    assert server.worker_pid() in server.wait_workers(1, without=[pid])
    assert "exited with code" not in server.log
    assert server.terminate() == 0


def test_a_signal_that_comes_late(launch):
    """The second TERM, of a supervisor that tells the whole process group, may find a worker at its very end."""
    hook = "import os, signal\n\ndef worker_exit(server, worker):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    server = launch("team_app:app", config=hook)
    assert server.get("/").body == b"hello"
    assert server.terminate() == 0
    assert "wakeup fd" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(("hook", "signum"), [("worker_int", signal.SIGINT), ("worker_abort", signal.SIGABRT)])
def test_signals_of_a_worker(launch, hook, signum):
    """The exception comes out of whatever the main thread did: the worker is lost, and replaced."""
    server, pid = launched(launch, hook, deaths=True)
    os.kill(pid, signum)
    server.wait_log(r"\[ERROR\] Exception in worker process")
    server.wait_log(rf"\[ERROR\] Worker \(pid:{pid}\) exited with code 255\.")
    server.wait_log("ValueError: raised in the hook")
    assert server.worker_pid() in server.wait_workers(1, without=[pid])


def test_child_exit(launch):
    server, pid = launched(launch, "child_exit", deaths=True)
    os.kill(pid, signal.SIGTERM)
    assert server.wait_exit() == 255
    assert "Unhandled exception in main loop" in server.log
    wait_for("the workers to leave", lambda: not server.session())


def test_on_reload(launch):
    server, _ = launched(launch, "on_reload", deaths=True)
    server.kill(signal.SIGHUP)
    assert server.wait_exit() == 255
    assert "Unhandled exception in main loop" in server.log
    assert "ValueError: raised in the hook" in server.log
    wait_for("the workers to leave", lambda: not server.session())


@pytest.mark.parametrize("hook", ["on_exit", "child_exit"])
def test_errors_while_stopping(launch, hook):
    server, _ = launched(launch, hook, deaths=True)
    assert server.terminate(signal.SIGTERM) == 1
    assert "ValueError: raised in the hook" in server.log
    wait_for("the workers to leave", lambda: not server.session())


def test_a_hook_at_the_exit_may_change_the_status(launch):
    server, _ = launched(launch, "on_exit", exception="SystemExit(9)")
    assert server.terminate(signal.SIGTERM) == 9


def test_pre_exec_ends_the_upgrade_only(launch):
    """Gunicorn's child stops the workers as if they were its own; the master replaces them."""
    server, _ = launched(launch, "pre_exec", "--graceful-timeout", "1", deaths=True)
    server.kill(signal.SIGUSR2)
    (note,) = wait_notes(server, "pre_exec")
    assert note["ppid"] == server.pid
    server.wait_log("ValueError: raised in the hook")
    wait_for("the child to leave", lambda: note["pid"] not in server.session())
    wait_for("a worker", server.workers)
    assert server.worker_pid() in server.workers()
    assert server.process.poll() is None


def test_a_worker_that_cannot_boot_later(launch):
    """Gunicorn's server ends. Here the others serve on, and it is tried again after pauses."""
    config = raising("post_fork").replace("    raise", "    if worker.age > 1:\n        raise")
    server = launch("team_app:app", config=config, deaths=True)
    server.worker_pid()
    server.settle()
    server.kill(signal.SIGTTIN)
    if not server.flavour.own:
        assert server.wait_exit() == 3
        return
    server.wait_log("Worker failed to boot", count=3)
    assert server.get("/pid").status == 200


def test_a_hook_of_a_worker_may_end_it(launch):
    """SystemExit in post_fork is the worker's own: it is replaced."""
    config = raising("post_fork", "SystemExit(5)").replace("    raise", "    if worker.age == 1:\n        raise")
    server = launch("team_app:app", config=config, deaths=True)
    pid = server.worker_pid()
    first, second = notes(server, "post_fork")
    assert second["pid"] == pid
    server.wait_log(rf"\[ERROR\] Worker \(pid:{first['pid']}\) exited with code 5\.")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("def post_fork(server):\n    pass\n", "post_fork"),
        ("def on_starting(*args):\n    pass\n", "on_starting"),
        ("when_ready = 'no_such_module.hook'\n", "no_such_module"),
        ("when_ready = 'team_hooks.no_such_name'\n", "no_such_name"),
        ("pre_fork = 42\n", "pre_fork"),
        ("def post_request(worker):\n    pass\n", "post_request"),
        ("class when_ready:\n    pass\n", "when_ready"),
        # Parameters with a default count.
        ("def on_starting(server, extra=None):\n    pass\n", "on_starting"),
    ],
)
def test_hooks_that_are_refused(flavour, workdir, line, words):
    (workdir / "conf.py").write_text(line)
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--config", "conf.py", "team_app:app")
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "on_starting = lambda server: record('on_starting')\n",
        "class Starting:\n    def __call__(self, server):\n        record('on_starting')\non_starting = Starting()\n",
        (
            "import functools\ndef base(word, server):\n    record(word)\n"
            "on_starting = functools.partial(base, 'on_starting')\n"
        ),
        (
            "class Hooks:\n    def starting(self, server):\n        record('on_starting')\n"
            "on_starting = Hooks().starting\n"
        ),
        (
            "class Hooks:\n    @staticmethod\n    def starting(server):\n        record('on_starting')\n"
            "on_starting = Hooks.starting\n"
        ),
    ],
    ids=["lambda", "object", "partial", "method", "static"],
)
def test_kinds_of_callables(flavour, workdir, line):
    end = "def when_ready(server):\n    raise SystemExit(8)\n"
    (workdir / "conf.py").write_text("from hooklog import record\n" + line + end)
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--config", "conf.py", "team_app:app")
    assert done.returncode == 8, done.stderr
    assert "on_starting" in (workdir / "hooks.log").read_text()
