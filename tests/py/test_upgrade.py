"""SIGUSR2: a new master beside the old one, on the same sockets; forward, back, and starts that fail."""

import os
import signal
import sys
from pathlib import Path

import pytest
from harness import is_alive, wait_for
from masters import Load, as_module, heir, starts, status_field, title, upgrade, variable, wait_answers, wait_content
from rawhttp import request

TCP, UNIX = "127.0.0.1:0", "unix:server.sock"
BINDS = pytest.mark.parametrize("bind", [TCP, UNIX], ids=["tcp", "unix"])
STOPS = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT], ids=lambda signum: signum.name)


def files(server):
    """The pid files: of the master, and of a new one beside it."""
    return server.workdir / "app.pid", server.workdir / "app.pid.2"


def start(launch, *args, **options):
    """A server with a pid file, two workers of which have answered."""
    server = launch("life:app", "-w", "2", "--pid", "app.pid", "-n", "shop", *args, **options)
    wait_answers(server, server.wait_workers(2))
    return server


def promoted(server, new, count=1):
    """Wait until the new master has taken the names."""
    server.wait_log(rf"\[{new.pid}\] \[INFO\] Master has been promoted\.", count=count)
    file, second = files(server)
    wait_content(file, f"{new.pid}\n")
    wait_for("the second pid file to go", lambda: not second.exists())


@BINDS
def test_forward(launch, bind):
    server = start(launch, bind=bind)
    old_workers = server.workers()
    file, second = files(server)
    new = upgrade(server)
    assert (file.read_text(), second.read_text()) == (f"{server.pid}\n", f"{new.pid}\n")
    # Both serve.
    wait_answers(server, [*old_workers, *new.wait_workers(2)])
    assert server.terminate() == 0
    promoted(server, new)
    wait_answers(new, new.workers())
    assert not any(map(is_alive, old_workers))
    if bind == UNIX:
        assert Path(server.address).is_socket()
    new.terminate()
    wait_for("the pid file to go", lambda: not file.exists())
    if bind == UNIX:
        assert not Path(server.address).exists()


@BINDS
@STOPS
def test_way_back(launch, bind, signum):
    server = start(launch, bind=bind)
    file, second = files(server)
    new = upgrade(server)
    wait_answers(server, new.wait_workers(2))
    new.terminate(signum)
    assert not second.exists()
    assert file.read_text() == f"{server.pid}\n"
    wait_answers(server, server.wait_workers(2))
    # And forward again.
    newer = upgrade(server)
    assert server.terminate() == 0
    promoted(server, newer)
    wait_answers(newer, newer.wait_workers(2))
    if bind == UNIX:
        assert Path(server.address).is_socket()


def test_several_in_a_row(launch):
    server = start(launch, bind=UNIX)
    masters = [server]
    for _ in range(3):
        new = upgrade(masters[-1])
        assert masters[-1].terminate() == 0
        promoted(server, new)
        masters.append(new)
    wait_answers(new, new.wait_workers(2))
    assert variable(new.pid, "GUNICORN_PID") == str(masters[-2].pid)


@STOPS
def test_the_old_master_leaves_by(launch, signum):
    server = start(launch, bind=UNIX)
    new = upgrade(server)
    assert server.terminate(signum) == 0
    promoted(server, new)
    assert Path(server.address).is_socket()
    assert new.worker_pid() in new.workers()


@pytest.mark.own
def test_a_new_master_that_has_ended_is_in_nobodys_way(launch):
    """Its end and the next USR2 reach the old master in one look, in whatever order."""
    server = start(launch)
    new = upgrade(server)
    server.kill(signal.SIGSTOP)
    os.kill(new.pid, signal.SIGTERM)
    wait_for("the new master to end", lambda: not is_alive(new.pid))
    server.kill(signal.SIGUSR2)
    server.kill(signal.SIGCONT)
    _, second = files(server)
    wait_for("another new master", lambda: second.exists() and second.read_text() not in ("", f"{new.pid}\n"))
    another = int(second.read_text())
    os.kill(another, signal.SIGTERM)
    wait_for("it to end", lambda: not is_alive(another))
    assert server.terminate() == 0
    assert "USR2 signal ignored" not in server.log


def test_one_upgrade_at_a_time(launch):
    server = start(launch)
    new = upgrade(server)
    server.kill(signal.SIGUSR2)
    server.wait_log(rf"\[{server.pid}\] \[WARNING\] USR2 signal ignored\. Child exists\.")
    new.kill(signal.SIGUSR2)
    server.wait_log(rf"\[{new.pid}\] \[WARNING\] USR2 signal ignored\. Parent exists\.")
    assert len(starts(server)) == 2
    assert server.terminate() == 0
    promoted(server, new)
    new.kill(signal.SIGUSR2)
    wait_for("the third master", lambda: len(starts(server)) == 3)
    heir(server, starts(server)[2])


def test_new_code_and_settings(launch):
    server = launch("life:app", config="workers = 1\n", bind=UNIX)
    assert server.get("/version").body == b"none"
    (server.workdir / "version").write_text("two")
    (server.workdir / "test.conf.py").write_text("workers = 3\n")
    new = upgrade(server)
    new.wait_workers(3)
    assert server.terminate() == 0
    wait_for("the new version", lambda: new.get("/version").body == b"two")


def test_preloaded_code_is_new(launch):
    """Unlike after HUP."""
    server = launch("life:app", "--preload")
    (server.workdir / "version").write_text("two")
    new = upgrade(server)
    assert server.terminate() == 0
    wait_for("the new version", lambda: new.get("/version").body == b"two")


def test_the_environment_is_that_of_the_start(launch):
    config = "import os\nos.environ['FROM_FILE'] = 'set'\nraw_env = ['RAW=set']\n"
    server = launch("life:app", config=config, env={"MINE": "given"})
    assert server.get("/env?name=FROM_FILE").body == b"set"
    new = upgrade(server)
    assert variable(new.pid, "MINE") == "given"
    assert variable(new.pid, "FROM_FILE") is None
    assert variable(new.pid, "RAW") is None
    assert variable(new.pid, "GUNICORN_PID") == str(server.pid)
    assert server.terminate() == 0
    server.wait_log("Master has been promoted")
    for name, value in {"MINE": b"given", "FROM_FILE": b"set", "RAW": b"set", "GUNICORN_FD": b"unset"}.items():
        assert new.get(f"/env?name={name}").body == value
    # Workers from now on see nothing of the upgrade.
    before = new.workers()
    new.kill(signal.SIGHUP)
    new.wait_workers(1, without=before)
    wait_for("a worker that is no heir's", lambda: new.get("/env?name=GUNICORN_PID").body == b"unset")


def test_the_directory_is_where_the_start_directory_leads_by_now(launch, workdir):
    """A deployment that switches a link, as Capistrano does."""
    for name in ("one", "two"):
        (workdir / name).mkdir()
        (workdir / name / "version").write_text(name)
    current = workdir / "current"
    current.symlink_to("one")
    server = launch("life:app", "--error-logfile", str(workdir / "log"), workdir=current, env={"PWD": str(current)},
                    errorlog=workdir / "log")  # fmt: skip
    assert server.get("/version").body == b"one"
    current.unlink()
    current.symlink_to("two")
    new = upgrade(server)
    assert server.terminate() == 0
    wait_for("the new version", lambda: new.get("/version").body == b"two")
    assert os.readlink(f"/proc/{new.workers()[0]}/cwd") == str(workdir / "two")


def test_python_dash_m(launch):
    server = launch("life:app", prefix=as_module())
    new = upgrade(server)
    assert server.terminate() == 0
    server.wait_log("Master has been promoted")
    assert new.worker_pid() in new.workers()


@pytest.mark.own
def test_options_of_the_interpreter_stay(launch, workdir):
    """Gunicorn loses them."""
    (workdir / "flags.py").write_text(
        "import sys\nfrom life import app\napp.text('/x')(lambda environ: str(sys._xoptions))\n"
    )
    prefix = ["sh", "-c", 'exec "$0" -X mine=1 "$@"', sys.executable]
    server = launch("flags:app", prefix=prefix, workdir=workdir)
    masters = [server]
    for _ in range(2):
        masters.append(upgrade(masters[-1]))
        assert masters[-2].terminate() == 0
        server.wait_log("Master has been promoted", count=len(masters) - 1)
        assert server.get("/x").body == b"{'mine': '1'}"


@pytest.mark.own
def test_titles(launch):
    """Gunicorn needs a package for them."""
    server = start(launch)
    new = upgrade(server)
    worker = new.wait_workers(2)[0]
    wait_for("the worker's title", lambda: title(worker) == "rgunicorn: worker [shop.2]")
    assert (title(server.pid), title(new.pid)) == ("rgunicorn: master [shop]", "rgunicorn: master [shop.2]")
    assert server.terminate() == 0
    promoted(server, new)
    assert title(new.pid) == "rgunicorn: master [shop]"


def test_signals_are_not_blocked_in_the_new_master(launch):
    """The old one blocks them around the fork."""
    server = start(launch)
    new = upgrade(server)
    blocked = status_field(os.getpid(), "SigBlk")
    # Each master blocks them for the moment of a fork.
    wait_for("no more to be blocked than here", lambda: status_field(new.pid, "SigBlk") == blocked)
    new.kill(signal.SIGTTIN)
    new.wait_workers(3)


def test_names_in_the_log(launch):
    server = start(launch)
    new = upgrade(server)
    # A TERM is lost on a worker of Gunicorn's that has no handlers yet.
    wait_answers(server, new.wait_workers(2))
    new.terminate()
    server.wait_log(rf"\[{new.pid}\] \[INFO\] Shutting down: Master\.2")


# Starts that fail.


def failed_start(server, pattern):
    """USR2 leads to a master that leaves again; the old one is as it was and could be upgraded."""
    workers = server.workers()
    server.kill(signal.SIGUSR2)
    server.wait_log(pattern)
    file, second = files(server)
    wait_for("the new master to leave", lambda: sorted(server.session()) == sorted([server.pid, *workers]))
    assert not second.exists()
    assert file.read_text() == f"{server.pid}\n"
    wait_answers(server, workers)


@pytest.mark.parametrize("broken", ["workers = 'many'\n", "workers = (\n", "raise ValueError('odd')\n"])
def test_a_broken_configuration(launch, broken):
    server = start(launch, config="keepalive = 3\n", bind=UNIX, deaths=True)
    (server.workdir / "test.conf.py").write_text(broken)
    failed_start(server, "Invalid|Failed to read config file")
    (server.workdir / "test.conf.py").write_text("keepalive = 3\n")
    new = upgrade(server)
    assert server.terminate() == 0
    promoted(server, new)
    wait_answers(new, new.wait_workers(2))


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_an_application_that_does_not_load(launch, workdir, options):
    # One worker: where several fail at once, Gunicorn's master dies of the second one, and its pid file stays.
    module = workdir / "fragile.py"
    module.write_text("from life import app\n")
    server = launch("fragile:app", "--pid", "app.pid", *options, bind=UNIX, workdir=workdir, deaths=True)
    wait_answers(server, server.wait_workers(1))
    module.write_text("raise ValueError('broken by a deployment')\n")
    failed_start(server, "broken by a deployment")
    assert Path(server.address).is_socket()
    module.write_text("from life import app\n")
    new = upgrade(server)
    assert server.terminate() == 0
    promoted(server, new)
    wait_answers(new, new.wait_workers(1))


@pytest.mark.own
def test_a_failed_start_is_reported(launch):
    """Gunicorn's old master says nothing."""
    server = start(launch, config="keepalive = 3\n", deaths=True)
    (server.workdir / "test.conf.py").write_text("workers = 'many'\n")
    failed_start(server, r"\[ERROR\] New master \(pid:\d+\) exited with code 1\. This one goes on\.")


@pytest.mark.own
def test_a_new_master_that_is_killed_leaves_no_pid_file(launch):
    """Gunicorn leaves it."""
    server = start(launch, bind=UNIX, deaths=True)
    _, second = files(server)
    new = upgrade(server)
    orphans = new.wait_workers(2)
    new.kill(signal.SIGKILL)
    server.wait_log(rf"New master \(pid:{new.pid}\) was sent SIGKILL\. This one goes on\.")
    wait_for("the second pid file to go", lambda: not second.exists())
    wait_for("its workers to leave", lambda: not any(map(is_alive, orphans)))
    wait_answers(server, server.workers())
    assert server.terminate() == 0
    assert not Path(server.address).exists()


@pytest.mark.own
def test_an_old_master_that_is_killed_is_succeeded(launch):
    """Gunicorn's new master stumbles over the pid file while nobody has waited for the old one."""
    server = start(launch, bind=UNIX, deaths=True)
    old_workers = server.workers()
    new = upgrade(server)
    os.kill(server.pid, signal.SIGKILL)
    promoted(server, new)
    wait_for("the old workers to leave", lambda: not any(map(is_alive, old_workers)))
    wait_answers(new, new.wait_workers(2))


def test_orphans_of_both(launch):
    """Workers belong to the master that has forked them."""
    server = start(launch, deaths=True)
    new = upgrade(server)
    wait_answers(server, new.wait_workers(2))
    server.terminate()
    server.wait_log("Master has been promoted")
    workers = new.workers()
    wait_answers(new, workers)
    assert new.workers() == workers, "they have not taken the promotion for the death of their master"


# Under load.


@pytest.mark.own
@BINDS
def test_no_request_is_lost(launch, bind):
    """Forward, and back and forward, with keep-alive and one-shot clients. Gunicorn resets what it has not accepted."""
    server = start(launch, bind=bind)
    with Load(server.address) as load:
        load.wait_more()
        new = upgrade(server)
        wait_for("answers of both", lambda: {str(pid) for pid in new.workers()} & set(load.answers))
        load.wait_more()
        new.terminate()
        load.wait_more()
        newer = upgrade(server)
        load.wait_more()
        assert server.terminate() == 0
        load.wait_more()
        promoted(server, newer)
        load.wait_more(100)
    load.check()


@pytest.mark.own
def test_a_long_request_ends_well(launch):
    server = start(launch)
    with server.client() as client:
        client.send(request("/started?s=2"))
        wait_for("the slow request to start", (server.workdir / "started").exists)
        new = upgrade(server)
        server.kill(signal.SIGTERM)
        assert client.response().status == 200
    assert server.wait_exit() == 0
    assert new.worker_pid() in new.workers()


# Addresses.


@pytest.mark.own
def test_a_new_address_waits_for_a_reload(launch):
    """Gunicorn's new master listens on what it has inherited, too, but never opens the other one."""
    server = launch("life:app", bind=None, config=f"bind = '{UNIX}'\n")
    (server.workdir / "test.conf.py").write_text(f"bind = ['{UNIX}', 'unix:other.sock']\n")
    new = upgrade(server)
    server.wait_log(r"\[WARNING\] other\.sock is not open: .*HUP")
    inode = Path(server.address).stat().st_ino
    assert server.terminate() == 0
    server.wait_log("Master has been promoted")
    old = new.workers()
    new.kill(signal.SIGHUP)
    new.wait_workers(1, without=old)
    wait_for("the other address", (server.workdir / "other.sock").is_socket)
    assert Path(server.address).stat().st_ino == inode
    new.terminate()
    assert not Path(server.address).exists()
    assert not (server.workdir / "other.sock").exists()


@pytest.mark.own
def test_hup_of_a_new_master_keeps_its_second_name(launch):
    """Gunicorn's finds the pid file of its parent, and dies of it."""
    server = start(launch)
    file, second = files(server)
    new = upgrade(server)
    old = new.wait_workers(2)
    new.kill(signal.SIGHUP)
    new.wait_workers(2, without=old)
    assert (file.read_text(), second.read_text()) == (f"{server.pid}\n", f"{new.pid}\n")
    assert title(new.pid) == "rgunicorn: master [shop.2]"


def test_winch_means_nothing_in_the_foreground(launch):
    server = start(launch, "--log-level", "debug")
    server.kill(signal.SIGWINCH)
    server.wait_log(r"\[DEBUG\] SIGWINCH ignored\. Not daemonized")
    assert len(server.workers()) == 2
