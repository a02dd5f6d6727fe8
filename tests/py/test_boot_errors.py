"""What does not start says so: one message that names the thing, Gunicorn's exit status, none of our internals."""

import re
import signal
import socket

import pytest
from harness import run_to_end

# Words that would show an operator our inside instead of his mistake.
INTERNALS = ("panicked at", "RUST_BACKTRACE", "_rgunicorn")


@pytest.fixture
def run(flavour, workdir):
    """Run a command line to its end and check the status; gives stderr. A traceback is for the user's own code only."""

    def run(status, *args, env=None, files=None, traceback=False):
        for name, text in (files or {}).items():
            (workdir / name).write_text(text)
        done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", *args, env=env)
        assert done.returncode == status, f"{done.returncode} instead of {status}\n{done.stdout}\n{done.stderr}"
        assert not [word for word in INTERNALS if word in done.stderr], done.stderr
        assert traceback or not flavour.own or "Traceback" not in done.stderr, done.stderr
        return done.stderr

    return run


def test_no_application(run):
    assert "Error: No application module specified." in run(1)


@pytest.mark.parametrize("option", ["--no-such-option", "-Z", "--workers", "--bind=127.0.0.1:0 --workers"])
def test_option_errors(run, flavour, option):
    stderr = run(2, "life:app", *option.split())
    assert stderr.lower().startswith("usage:")
    assert f"{flavour.program}: error: " in stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--workers", "many"),
        ("--workers", "1.5"),
        ("--timeout", "soon"),
        ("--backlog", ""),
    ],
)
def test_not_a_number_is_an_option_error(run, option, value):
    assert option in run(2, "life:app", option, value)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--workers", "-1", "-1"),
        ("--timeout", "-5", "-5"),
        ("--limit-request-line", "-1", "-1"),
        ("--chdir", "/no/such/directory", "/no/such/directory"),
        ("--worker-class", "wonder", "wonder"),
        ("--bind", "127.0.0.1:port", "port"),
        ("--config", "no-such-file.py", "no-such-file.py"),
    ],
)
def test_bad_values(run, option, value, named):
    stderr = run(1, "life:app", f"{option}={value}")
    assert "Error: " in stderr
    assert named in stderr


def test_bad_values_in_the_environment(run):
    assert "Error: " in run(1, "life:app", env={"GUNICORN_CMD_ARGS": "--workers=-3"})
    assert "error: " in run(2, "life:app", env={"GUNICORN_CMD_ARGS": "--no-such-option"})


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("workers = 'many'", "workers"),
        ("workers = -1", "workers"),
        ("timeout = 1.5", "timeout"),
        ("bind = 5", "bind"),
        ("preload_app = 'maybe'", "preload_app"),
        ("errorlog = 3", "errorlog"),
        ("chdir = '/no/such/directory'", "chdir"),
    ],
)
def test_bad_value_in_the_file(run, line, named):
    stderr = run(1, "life:app", "-c", "bad.py", files={"bad.py": line + "\n"})
    assert f"Invalid value for {named}: " in stderr
    assert "Error: " in stderr


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("workers = (\n", "SyntaxError"),
        ("raise ValueError('odd')\n", "ValueError: odd"),
        ("import nothing_here\n", "nothing_here"),
    ],
)
def test_config_file_raises(run, text, error):
    stderr = run(1, "life:app", "-c", "bad.py", files={"bad.py": text}, traceback=True)
    assert re.search(r"Failed to read config file: (\S*/)?bad\.py\n", stderr)
    assert error in stderr


# The application. Without preload it is imported in a worker.

STATUS_3 = {
    "no_such_module_here:app": "ModuleNotFoundError: No module named 'no_such_module_here'",
    "broken:app": "SyntaxError",
    "raises:app": "ValueError: at import",
    "exits:app": "exits",
}
STATUS_4 = {
    "life:no_such_name": "no_such_name",
    "life:not_callable": "callable",
    "life:create(": "create(",
    "life:create(1+x)": "create",
    "life:no_such_factory()": "no_such_factory",
    "life:app.attribute": "app.attribute",
}
FILES = {
    "broken.py": "def app(:\n",
    "raises.py": "raise ValueError('at import')\n",
    "exits.py": "raise SystemError('exits')\n",
}


@pytest.mark.parametrize("app", STATUS_3)
def test_application_cannot_be_imported(run, app):
    stderr = run(3, app, files=FILES, traceback=True)
    assert STATUS_3[app] in stderr
    assert "exited with code 3" in stderr
    assert "Reason: Worker failed to boot." in stderr


@pytest.mark.parametrize("app", STATUS_4)
def test_application_is_not_there(run, app):
    stderr = run(4, app)
    assert STATUS_4[app] in stderr
    assert "exited with code 4" in stderr
    assert "Reason: App failed to load." in stderr


def test_file_name_instead_of_module(run):
    """`app.py` for `app`: the message says how it should be written."""
    stderr = run(3, "raises.py", files={"raises.py": "application = 1\n"}, traceback=True)
    assert "raises:" in stderr or "'raises'" in stderr


@pytest.mark.parametrize("app", [*STATUS_3, *STATUS_4])
def test_preloaded_application(run, app):
    stderr = run(1, app, "--preload", files=FILES, traceback=True)
    assert (STATUS_3 | STATUS_4)[app] in stderr
    assert "Booting worker" not in stderr


def test_busy_address(run):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        stderr = run(1, "life:app", "--bind", f"127.0.0.1:{port}")
    address = str(("127.0.0.1", port))
    assert stderr.count(f"Connection in use: {address}") == 5
    assert f"Can't connect to {address}" in stderr


def test_address_of_another_machine(run):
    stderr = run(1, "life:app", "--bind", "192.0.2.1:8000")
    assert "192.0.2.1" in stderr


def test_file_at_the_unix_path(run):
    stderr = run(1, "life:app", "--bind", "unix:occupied", files={"occupied": "mine"})
    assert "occupied" in stderr


@pytest.mark.parametrize("option", ["--error-logfile", "--access-logfile", "--pid"])
def test_file_cannot_be_written(run, option):
    assert "/no/such/directory" in run(1, "life:app", option, "/no/such/directory/file")


def test_pid_file_of_a_running_server(launch, flavour):
    first = launch("life:app", "--pid", "server.pid")
    first.get("/pid")
    done = run_to_end(flavour, first.workdir, "--bind", "127.0.0.1:0", "--pid", "server.pid", "life:app")
    assert done.returncode == 1
    assert f"Already running on PID {first.pid}" in done.stderr
    assert (first.workdir / "server.pid").read_text() == f"{first.pid}\n"


def test_a_boot_failure_later_stops_the_server(launch):
    """Any worker, at any time: here the second one."""
    server = launch("life_breaks:app", deaths=True)
    server.get("/pid")
    (server.workdir / "break").touch()
    server.kill(signal.SIGTTIN)
    assert server.wait_exit() == 3
    server.wait_log("Reason: Worker failed to boot.")


# What ends well.


@pytest.mark.parametrize("option", ["-v", "--version"])
def test_version(flavour, workdir, option):
    done = run_to_end(flavour, workdir, option)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{flavour.program} (version ")
    assert done.stdout.rstrip()[-2].isdigit()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(flavour, workdir, option):
    done = run_to_end(flavour, workdir, option)
    assert done.returncode == 0
    for flag in (
        "--bind",
        "--workers",
        "--worker-class",
        "--timeout",
        "--graceful-timeout",
        "--access-logfile",
        "APP_MODULE",
    ):
        assert flag in done.stdout
