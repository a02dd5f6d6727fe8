"""What does not start says so: one message that names the thing, Gunicorn's exit status, none of our internals."""

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from harness import environment, run_to_end, wait_for
from rawhttp import TIMEOUT_S

pytestmark = pytest.mark.one_driver

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
    """When no other one serves: here the one that replaces the only one."""
    server = launch("life_breaks:app", deaths=True)
    pid = int(server.get("/pid").body)
    (server.workdir / "break").touch()
    os.kill(pid, signal.SIGKILL)
    assert server.wait_exit() == 3
    server.wait_log("Reason: Worker failed to boot.")


# Values that only the system can judge, and values of odd types.


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--user", "no-such-user"], "No such user: 'no-such-user'"),
        (["--group", "no-such-group"], "No such group: 'no-such-group'"),
        (["--env", "EMPTY"], "environment setting 'EMPTY' invalid"),
        (["--forwarded-allow-ips", "10.0.0.1/8"], "10.0.0.1/8 has host bits set"),
    ],
)
def test_values_that_mean_nothing_here(run, args, message):
    stderr = run(1, "life:app", *args)
    assert "Error: " in stderr
    assert message in stderr


@pytest.mark.own
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads = -4\n", "threads: -4 is negative"),
        ("user = 1.5\n", "user: 1.5 is neither a name nor a number"),
        ("access_log_format = '%(h'\n", "Error: access_log_format: "),
        ("raw_env = ['=x']\n", "Invalid value for raw_env: ['=x']"),
    ],
)
def test_values_that_this_server_refuses(run, text, message):
    assert message in run(1, "life:app", "-c", "own.py", files={"own.py": text})


@pytest.mark.own
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class Worker: pass\nworker_class = Worker\n",
            "worker class '__config__.Worker' is not derived from Gunicorn's",
        ),
        ("def choose(): return 'sync'\nworker_class = choose\n", "worker class '<function choose at"),
        (
            "worker_class = 'wonder'\n",
            "worker class 'wonder' is unknown (available: sync, gthread, gevent, uring, and the dotted path",
        ),
    ],
)
def test_worker_classes_in_the_file(flavour, workdir, text, message):
    (workdir / "own.py").write_text(text)
    done = run_to_end(replace(flavour, options=()), workdir, "-b", "127.0.0.1:0", "-c", "own.py", "life:app")
    assert done.returncode == 1
    assert f"Error: {message}" in done.stderr


@pytest.mark.own
def test_no_address_to_listen_on(flavour, workdir):
    """Gunicorn starts and serves nobody."""
    (workdir / "own.py").write_text("bind = []\n")
    done = run_to_end(flavour, workdir, "-c", "own.py", "life:app")
    assert done.returncode == 1
    assert "Invalid value for bind: []\nError: bind: no address to listen on" in done.stderr


@pytest.mark.own
def test_an_invalid_access_format(run):
    """Gunicorn starts, and logs an error instead of each record."""
    assert "Error: access_log_format: " in run(1, "life:app", "--access-logformat", "%(h)q")


@pytest.mark.parametrize(("call", "status", "said"), [("'bye'", 1, "bye\n"), ("7", 7, ""), ("", 0, "")])
def test_config_file_that_exits(run, call, status, said):
    stderr = run(status, "life:app", "-c", "leaves.py", files={"leaves.py": f"import sys\nsys.exit({call})\n"})
    assert stderr.strip("\n") == said.strip("\n")


def test_config_module_cannot_be_imported(run):
    assert "No module named 'no_such_config'" in run(1, "life:app", "-c", "python:no_such_config", traceback=True)


# How an application may leave while it is imported.


@pytest.mark.own
@pytest.mark.parametrize("line", ["import sys; sys.exit(5)", "import sys; sys.exit()", "raise KeyboardInterrupt"])
def test_an_application_that_leaves_at_import_stops_the_server(run, line):
    """Gunicorn starts the worker again, for ever and as fast as it can."""
    stderr = run(3, "leaves", files={"leaves.py": line + "\n"}, traceback=True)
    assert line in stderr
    assert "Reason: Worker failed to boot." in stderr


@pytest.mark.parametrize(("call", "status", "said"), [("'bye'", 1, "bye"), ("5", 5, ""), ("", 0, "")])
def test_a_preloaded_application_that_leaves_at_import(run, call, status, said):
    files = {"leaves.py": f"import sys\nsys.exit({call})\n"}
    stderr = run(status, "leaves", "--preload", files=files)
    assert stderr.strip("\n").endswith(said)
    assert "Booting worker" not in stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda signum: signum.name)
def test_stop_during_a_slow_import(launch, signum):
    """A quick stop interrupts it, a graceful one waits for as long as graceful_timeout allows."""
    text = "import time\nopen('started', 'w').close()\ntime.sleep(30)\n"
    config = f"wsgi_app = 'slow:app'\nopen('slow.py', 'w').write({text!r})\n"
    server = launch(None, "--graceful-timeout", "1", config=config)
    wait_for("the import", (server.workdir / "started").exists)
    server.deaths = True
    assert server.terminate(signum) == 0


# Where io_uring is forbidden.

FORBID_IO_URING = """
import ctypes, errno, os, struct, sys
# Load the system call's number; io_uring_setup (425) gets EPERM, all others pass.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50000 | errno.EPERM), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
memory = ctypes.create_string_buffer(program, len(program))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(memory)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, head, 0, 0) == 0  # PR_SET_SECCOMP
os.execv(sys.argv[1], sys.argv[1:])
"""
FORBIDDEN = [sys.executable, "-c", FORBID_IO_URING]


@pytest.mark.own
def test_io_uring_by_name_where_it_is_forbidden(flavour, workdir):
    command = [*FORBIDDEN, flavour.path, "-k", "uring", "--io-driver", "uring", "-b", "127.0.0.1:0", "life:app"]
    done = subprocess.run(
        command, cwd=workdir, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: io_driver: uring (io_uring is not available: EPERM; ")
    assert "Listening" not in done.stderr


@pytest.mark.own
def test_io_uring_if_possible_where_it_is_forbidden(launch):
    """One line for each worker says what it runs on and why."""
    server = launch("life:app", "--io-driver", "auto", "--workers", "2", prefix=FORBIDDEN)
    pids = server.wait_workers(2)
    server.wait_log("on epoll", count=2)
    assert server.get("/pid").status == 200
    for pid in pids:
        line = rf"Worker {pid} runs .* on epoll \(io_uring is not available: EPERM; "
        assert len(re.findall(line, server.log)) == 1
    assert server.log.count("io_uring") == 2


def test_a_worker_tmp_dir_that_is_missing(flavour, workdir):
    """Under Gunicorn the first worker cannot be made, and the master fails."""
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--worker-tmp-dir", "missing", "life:app")
    assert done.returncode == (1 if flavour.own else 255), done.stderr
    if flavour.own:
        assert done.stderr.startswith('Error: worker_tmp_dir: "missing" is no directory'), done.stderr


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
