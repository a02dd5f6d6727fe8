"""Where settings come from and who wins: default < file < GUNICORN_CMD_ARGS < command line, each on a real server.

The observed setting is the access log's format: it is a text, so it can say which source it came from.
"""

import os

import pytest
from harness import wait_for
from rawhttp import Client


def log_says(server):
    """The access log's line for one request."""
    log = server.workdir / "access.log"
    before = log.read_text() if log.exists() else ""
    assert server.get("/pid").status == 200
    wait_for("the access line", lambda: log.exists() and len(log.read_text()) > len(before))
    return log.read_text()[len(before) :].strip()


FILE = "access_log_format = 'file'\n"
LOG = ["--access-logfile", "access.log"]
ENV = {"GUNICORN_CMD_ARGS": "--access-logformat 'from env'"}
CLI = ["--access-logformat", "cli"]


@pytest.mark.parametrize(
    ("config", "env", "cli", "winner"),
    [
        (None, None, [], '"GET /pid HTTP/1.1" 200'),
        (FILE, None, [], "file"),
        (FILE, ENV, [], "from env"),
        (None, ENV, CLI, "cli"),
        (FILE, None, CLI, "cli"),
        (FILE, ENV, CLI, "cli"),
    ],
)
def test_precedence(launch, config, env, cli, winner):
    server = launch("life:app", *LOG, *cli, config=config, env=env)
    assert winner in log_says(server)


def test_environment_defaults_are_the_weakest(launch):
    server = launch("life:app", env={"WEB_CONCURRENCY": "2"})
    server.wait_workers(2)
    server = launch("life:app", env={"WEB_CONCURRENCY": "2"}, config="workers = 3\n")
    server.wait_workers(3)
    server = launch("life:app", "--workers", "1", env={"WEB_CONCURRENCY": "2"})
    server.wait_log("Booting worker")
    server.get("/pid")
    assert len(server.workers()) == 1


@pytest.mark.own
def test_empty_web_concurrency_is_unset(launch):
    """A crash at import in Gunicorn; platforms do set it empty."""
    server = launch("life:app", env={"WEB_CONCURRENCY": ""})
    assert server.get("/pid").status == 200


def test_port(launch):
    server = launch("life:app", bind=None, env={"PORT": "0"})
    assert server.address[0] == "0.0.0.0"
    assert server.get("/pid").status == 200


def test_lists_replace_and_do_not_extend(launch):
    server = launch("life:app", bind=None, config="bind = ['unix:a.sock', 'unix:b.sock']\n")
    assert len(server.addresses) == 2
    server = launch("life:app", bind="unix:c.sock", config="bind = ['unix:a.sock', 'unix:b.sock']\n")
    assert [os.path.basename(address) for address in server.addresses] == ["c.sock"]


def test_config_file_of_the_directory_is_found(launch, workdir):
    (workdir / "gunicorn.conf.py").write_text(FILE)
    assert log_says(launch("life:app", *LOG, workdir=workdir)) == "file"


def test_a_named_file_is_read_instead(launch, workdir):
    (workdir / "gunicorn.conf.py").write_text("workers = 'never read'\n")
    assert log_says(launch("life:app", *LOG, workdir=workdir, config=FILE)) == "file"


def test_config_from_the_environment_variable(launch, workdir):
    (workdir / "elsewhere.py").write_text(FILE)
    env = {"GUNICORN_CMD_ARGS": "--config elsewhere.py"}
    assert log_says(launch("life:app", *LOG, workdir=workdir, env=env)) == "file"


@pytest.mark.parametrize("form", ["file:named.py", "python:named"])
def test_forms_of_config(launch, workdir, form):
    (workdir / "named.py").write_text(FILE)
    assert log_says(launch("life:app", *LOG, "--config", form, workdir=workdir)) == "file"


def test_config_is_python(launch):
    """Names that are no settings, imports, functions; `__file__`; None where a setting takes it."""
    text = (
        "import os, multiprocessing\n"
        "from math import pi\n"
        "def half(n):\n    return n // 2\n"
        "workers = half(4)\n"
        "timeout = '0x20'\n"
        "user = None\n"
        "pidfile = None\n"
        "preload_app = 'FALSE'\n"
        "pi_file = os.path.basename(__file__)\n"
        "access_log_format = f'{pi_file} {workers}'\n"
    )
    server = launch("life:app", *LOG, config=text)
    assert log_says(server) == "test.conf.py 2"
    server.wait_workers(2)


def test_application_from_the_config_file(launch):
    assert launch(None, config="wsgi_app = 'life:app'\n").get("/pid").status == 200


def test_application_of_the_command_line_wins(launch):
    assert launch("life:app", config="wsgi_app = 'no_such:thing'\n").get("/pid").status == 200


@pytest.mark.parametrize(
    ("app", "answer"),
    [
        ("life:create()", b"default"),
        ('life:create("x")', b"x"),
        ("life:create('a', suffix='b')", b"ab"),
        ("life_default", b"default"),
    ],
)
def test_factories(launch, app, answer):
    assert launch(app).get().body == answer


def test_options_and_application_in_any_order(launch, workdir):
    """The application first, a long option with `=`, a glued short one, an abbreviated one."""
    server = launch(
        None, "life:app", "-w2", "--access-logfile=access.log", "--access-logform", "short", workdir=workdir
    )
    assert log_says(server) == "short"
    server.wait_workers(2)


# Directories.


def test_chdir(launch, workdir):
    inside = workdir / "inside"
    inside.mkdir()
    (inside / "local_app.py").write_text("from life import app\n")
    server = launch("local_app:app", "--chdir", "inside", workdir=workdir, config="workers = 1\n")
    assert server.get("/modules").body.decode().split("\n")[1] == str(inside)


def test_start_directory_is_on_the_path(launch, workdir):
    (workdir / "local_app.py").write_text("from life import app\n")
    server = launch("local_app:app", workdir=workdir)
    assert str(workdir) in server.get("/argv").body.decode().split("\n")


def test_pythonpath(launch, workdir):
    for name in ("first", "second"):
        (workdir / name).mkdir()
        (workdir / name / f"in_{name}.py").write_text("from life import app\n")
    server = launch("in_second:app", "--pythonpath", f"first,{workdir / 'second'}", workdir=workdir)
    path = server.get("/argv").body.decode().split("\n")
    assert {str(workdir / "first"), str(workdir / "second")} <= set(path)


def test_config_path_is_relative_to_the_start_directory(launch, workdir):
    """The configuration is read before the change of directory, the log file is opened after it."""
    inside = workdir / "inside"
    inside.mkdir()
    server = launch("life:app", *LOG, "--chdir", str(inside), workdir=workdir, config=FILE)
    assert server.get("/pid").status == 200
    wait_for("the access line", lambda: (inside / "access.log").read_text() == "file\n")


def test_preload_imports_in_the_master(launch, workdir):
    (workdir / "who.py").write_text("import os\nfrom life import create\napp = create(str(os.getpid()))\n")
    server = launch("who:app", "--preload", workdir=workdir)
    assert int(server.get().body) == server.pid
    server = launch("who:app", workdir=workdir)
    assert int(server.get().body) in server.workers()


def test_server_software_is_in_the_environment_of_the_application(launch):
    server = launch("life:app")
    assert server.get("/env?name=SERVER_SOFTWARE").body.decode().startswith(f"{server.flavour.program}/")


# Listeners.


def test_backlog_and_several_addresses(launch):
    server = launch("life:app", "--bind", "[::1]:0", "--bind", "unix:server.sock", "--backlog", "16")
    assert len(server.addresses) == 3
    for address in server.addresses:
        with Client(address) as client:
            assert client.get("/pid").status == 200


@pytest.mark.parametrize("address", ["localhost:0", "tcp://127.0.0.1:0", "LOCALHOST:0"])
def test_forms_of_addresses(launch, address):
    assert launch("life:app", bind=address).get("/pid").status == 200


def test_umask_of_the_unix_socket(launch):
    server = launch("life:app", "--umask", "007", bind="unix:server.sock")
    assert os.stat(server.address).st_mode & 0o777 == 0o770
