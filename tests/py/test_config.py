"""Where settings come from and who wins: default < file < GUNICORN_CMD_ARGS < command line, each on a real server.

The observed setting is the access log's format: it is a text, so it can say which source it came from.
"""

import os
import re
import signal

import pytest
from harness import APPS, wait_for
from masters import title
from rawhttp import Client

pytestmark = pytest.mark.one_driver


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
    assert server.get("/env?name=SERVER_SOFTWARE").body.decode().startswith("gunicorn/")


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


# Settings that act on the process.

WHO = """
import os
from life import create, plain


def app(environ, start_response):
    me = [*os.getresuid(), *os.getresgid(), *sorted(os.getgroups())]
    return plain(start_response, " ".join(map(str, me)))
"""
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_workers_become_the_user_and_group(launch, workdir):
    """The application is preloaded: that user may not be allowed to read where the tests lie."""
    (workdir / "who.py").write_text(WHO)
    server = launch(
        "who:app", "--preload", "--user", str(NOBODY), "--group", str(NOBODY), "--access-logfile", "access.log",
        workdir=workdir, errorlog=workdir / "error.log", bind="unix:server.sock", quiet=True,
    )  # fmt: skip
    assert server.get().body.decode().split()[:6] == [str(NOBODY)] * 6
    for name in ("server.sock", "access.log", "error.log"):
        status = os.stat(workdir / name)
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY), name
    assert os.stat(f"/proc/{server.pid}").st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_supplementary_groups(launch, workdir):
    """Those of the account: the name service says which."""
    (workdir / "who.py").write_text(WHO)
    server = launch("who:app", "--preload", "-u", "daemon", "-g", str(NOBODY), "--initgroups", workdir=workdir)
    groups = {int(text) for text in server.get().body.decode().split()[6:]}
    assert groups == set(os.getgrouplist("daemon", NOBODY))


@pytest.mark.own
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_rotated_logs_belong_to_the_user(launch, workdir):
    """Else its workers could not open them: Gunicorn's go on into the old file."""
    (workdir / "who.py").write_text(WHO)
    server = launch("who:app", "--preload", "-u", str(NOBODY), "--access-logfile", "access.log", workdir=workdir)
    server.get()
    os.rename(workdir / "access.log", workdir / "access.log.1")
    server.kill(signal.SIGUSR1)
    wait_for("the new file", (workdir / "access.log").exists)
    wait_for("its owner", lambda: os.stat(workdir / "access.log").st_uid == NOBODY)


def test_an_unprivileged_server_may_name_itself(launch):
    server = launch("life:app", "--user", str(os.geteuid()), "--group", str(os.getegid()))
    assert server.get("/pid").status == 200


def test_raw_env(launch):
    server = launch("life:app", "--env", "FIRST=1", "-e", "SECOND=a=b")
    assert server.get("/env?name=FIRST").body == b"1"
    assert server.get("/env?name=SECOND").body == b"a=b"


def test_order_of_the_path(launch, workdir):
    """The last of pythonpath is searched first, then chdir, then the start directory."""
    for name in ("first", "second", "inside"):
        (workdir / name).mkdir()
    paths = f"{workdir / 'first'},{workdir / 'second'}"
    server = launch("life:app", "--pythonpath", paths, "--chdir", "inside", workdir=workdir, config="workers = 1\n")
    lines = server.get("/argv").body.decode().split("\n")
    ours = [line for line in lines if line.startswith(str(workdir))]
    assert ours == [str(workdir / "second"), str(workdir / "first"), str(workdir / "inside"), str(workdir)]


def test_config_file_of_any_name(launch, workdir):
    (workdir / "settings").write_text(FILE)
    assert log_says(launch("life:app", *LOG, "--config", "settings", workdir=workdir)) == "file"


def test_none_means_the_default(launch):
    names = ["raw_env", "user", "group", "accesslog", "pidfile", "proc_name", "pythonpath", "wsgi_app"]
    server = launch("life:app", config="".join(f"{name} = None\n" for name in names))
    assert server.get("/pid").status == 200


@pytest.mark.own
def test_names_that_set_nothing(launch):
    """Near misses and what is not there yet get one line each; helpers and what is switched off get none."""
    text = (
        "import multiprocessing\ncores = 4\nname = 'x'\ndef half(n):\n    return n // 2\n"
        "worker = 2\nkeyfile = None\nreuse_port = False\ndirty_timeout = 5\n"
    )
    server = launch("life:app", config=text)
    warnings = [line.rpartition("[WARNING] ")[2] for line in server.log.splitlines() if "[WARNING]" in line]
    assert warnings == [
        "Unknown setting worker in the configuration file: did you mean workers?",
        "Setting dirty_timeout has no effect in this release",
    ]


# Reload.


def reload(server, text):
    """Write the configuration and send HUP."""
    (server.workdir / "test.conf.py").write_text(text)
    server.kill(signal.SIGHUP)


def test_reload_takes_new_values(launch):
    """Workers, keep-alive, level and format, on the same sockets."""
    server = launch("life:app", *LOG, config="keepalive = 0\naccess_log_format = 'old'\nloglevel = 'info'\n")
    assert server.get("/pid").header("Connection") == "close"
    old = server.workers()
    new = "keepalive = 75\naccess_log_format = 'new'\nworkers = 2\nloglevel = 'debug'\naccesslog = 'other.log'\n"
    reload(server, new)
    server.wait_workers(2, without=old)
    with server.client() as client:
        assert client.get("/pid").status == 200
        assert client.get("/pid").status == 200
    server.wait_log(r"\[DEBUG\]")
    wait_for("the new format", lambda: "new" in (server.workdir / "access.log").read_text())


@pytest.mark.own
@pytest.mark.parametrize("package", [True, False])
def test_names_of_the_processes(launch, package, tmp_path):
    """Gunicorn needs the package setproctitle for this. A reload renames the master too."""
    env = {}
    if not package:
        (tmp_path / "setproctitle.py").write_text("raise ImportError('hidden by the test')\n")
        env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{APPS}"
    server = launch("life:app", config="", env=env)
    assert title(server.pid) == "rgunicorn: master [life:app]"
    old = server.wait_workers(1)
    reload(server, "proc_name = 'shop'\n")
    (worker,) = server.wait_workers(1, without=old)
    wait_for("the new name", lambda: title(server.pid) == "rgunicorn: master [shop]")
    assert title(worker) == "rgunicorn: worker [shop]"


@pytest.mark.parametrize("name", ["conf.txt", "conf", "conf.py"])
def test_a_file_without_the_extension_of_python(launch, workdir, name):
    (workdir / name).write_text("proc_name = 'shop'\n")
    server = launch("life:app", "--config", name, workdir=workdir)
    assert server.get("/pid").status == 200
    warning = re.search(r"!!! WARNING: .*Python extension", server.stderr.read_text())
    assert (warning is None) == (name == "conf.py")


NAMING = """
def post_worker_init(worker):
    import setproctitle
    setproctitle.setproctitle(f"shop {worker.age}, with a name that is longer than the arguments")

def when_ready(server):
    import setproctitle
    setproctitle.setproctitle("shop")
"""


@pytest.mark.own(reason="Gunicorn names its master again behind the hooks of the start, if setproctitle is there")
def test_names_that_hooks_give(launch):
    # Long names take the room of the environment, too.
    server = launch("life:app", config=NAMING, env={"SPT_NOENV": None})
    wait_for("the master's name", lambda: title(server.pid) == "shop")
    (worker,) = server.wait_workers(1)
    name = "shop 1, with a name that is longer than the arguments"
    wait_for("the worker's name", lambda: title(worker) == name)
    assert server.get("/pid").body == str(worker).encode()


def test_reload_takes_environment_variables_back(launch):
    """The file is read in the environment of the start, and a variable that it names no more is gone."""
    text = "import os\nraw_env = ['SEEN=' + os.environ.get('ADDED', 'no'), 'ADDED=yes', 'KEPT=new']\n"
    server = launch("life:app", config=text, env={"KEPT": "old"})
    assert [server.get(f"/env?name={name}").body for name in ("SEEN", "ADDED", "KEPT")] == [b"no", b"yes", b"new"]
    old = server.workers()
    reload(server, text)
    old += server.wait_workers(1, without=old)
    assert [server.get(f"/env?name={name}").body for name in ("SEEN", "ADDED", "KEPT")] == [b"no", b"yes", b"new"]
    reload(server, "")
    server.wait_workers(1, without=old)
    assert [server.get(f"/env?name={name}").body for name in ("SEEN", "ADDED", "KEPT")] == [b"unset", b"unset", b"old"]


def test_reload_moves_the_logs(launch):
    server = launch("life:app", config="accesslog = 'one.log'\naccess_log_format = 'line'\n")
    server.get("/pid")
    old = server.workers()
    reload(server, "accesslog = 'two.log'\nerrorlog = 'error.log'\naccess_log_format = 'line'\n")
    server.wait_workers(1, without=old)
    server.get("/pid")
    wait_for("the line", lambda: (server.workdir / "two.log").read_text() == "line\n")
    wait_for("the error log", lambda: "Booting worker" in (server.workdir / "error.log").read_text())
    assert (server.workdir / "one.log").read_text() == "line\n"


BROKEN = {
    "workers = (\n": "SyntaxError",
    "raise ValueError('odd')\n": "ValueError: odd",
    "import sys\nsys.exit(1)\n": "SystemExit: 1",
    "workers = -1\n": "Error: workers: -1 is negative",
    "threads = -1\n": "Error: threads: -1 is negative",
    "user = 'no-such-user'\n": "No such user: 'no-such-user'",
    "chdir = '/no/such/directory'\n": "/no/such/directory",
    "accesslog = '/no/such/directory/log'\n": "'/no/such/directory/log' isn't writable",
    "errorlog = '/no/such/directory/log'\n": "'/no/such/directory/log' isn't writable",
    "access_log_format = '%(h)q'\n": "access_log_format",
    "bind = []\n": "no address",
}


@pytest.mark.own
@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_configuration_changes_nothing(launch, workdir, text):
    """Gunicorn ends with status 1 and leaves its workers behind."""
    (workdir / "inside").mkdir()
    server = launch("life:app", bind=None, workdir=workdir, config="bind = '127.0.0.1:0'\naccesslog = 'access.log'\n")
    old = server.worker_pid()
    reload(server, "chdir = 'inside'\nbind = '127.0.0.1:0'\n" + text)
    server.wait_log(re.escape(BROKEN[text]))
    assert server.worker_pid() == old
    # What comes after is as before: the directory, the logs, and a good reload.
    reload(server, "bind = '127.0.0.1:0'\naccesslog = 'later.log'\n")
    server.wait_workers(1, without=[old])
    assert server.get("/modules?name=os").body.decode().split("\n")[1] == str(workdir)
    wait_for("the access line", (workdir / "later.log").read_text)


@pytest.mark.own
def test_a_reload_that_fails_to_boot_goes_back(launch, workdir):
    """Directory and logs are those from before: the next worker proves it."""
    (workdir / "inside").mkdir()
    (workdir / "chosen.py").write_text("from life import app\n")
    first = "accesslog = 'access.log'\naccess_log_format = 'line'\nwsgi_app = 'chosen:app'\n"
    server = launch(None, workdir=workdir, config=first)
    old = server.worker_pid()
    server.deaths = True
    reload(server, "chdir = 'inside'\naccesslog = 'new.log'\nwsgi_app = 'no_such_module:app'\n")
    server.wait_log("Reload given up")
    assert server.worker_pid() == old
    server.kill(signal.SIGTTIN)
    (added,) = set(server.wait_workers(2)) - {old}
    # Until then it opens and closes the files that it imports.
    server.wait_log(f"Worker {added} .* on ")
    assert os.readlink(f"/proc/{added}/cwd") == str(workdir)
    files = {os.readlink(f"/proc/{added}/fd/{fd}") for fd in os.listdir(f"/proc/{added}/fd")}
    assert str(workdir / "access.log") in files
    assert str(workdir / "inside" / "new.log") not in files
