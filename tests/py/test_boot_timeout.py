"""`boot_timeout`: a worker whose application does not get imported is replaced, and gives a reload up."""

import pytest
from harness import wait_for
from masters import wait_answers

pytestmark = [pytest.mark.one_driver, pytest.mark.own(reason="Gunicorn never notices an import that hangs")]

HANGS = "import time\ntime.sleep(600)\n"
WORKS = "from life import app\n"
# Only SIGKILL helps.
DEAF = "import signal\nsignal.signal(signal.SIGABRT, signal.SIG_IGN)\n" + HANGS


@pytest.fixture
def module(workdir):
    """The application's file."""
    return workdir / "hanging.py"


def killed(server, count=1):
    """The pid of the worker that boot_timeout has ended."""
    pid = int(server.wait_log(r"\[CRITICAL\] WORKER BOOT TIMEOUT \(pid:(\d+)\): not booted after 1 s", count=count)[1])
    wait_for("its end", lambda: pid not in server.session())
    return pid


@pytest.mark.parametrize("text", [HANGS, DEAF], ids=["waits", "deaf"])
def test_a_worker_that_hangs_at_import_is_replaced(launch, workdir, module, text):
    module.write_text(text)
    server = launch("hanging:app", "--boot-timeout", "1", workdir=workdir, deaths=True)
    first = killed(server)
    assert killed(server, count=2) != first
    module.write_text(WORKS)
    wait_for("an answer", lambda: server.get("/pid").status == 200)
    if text == HANGS:
        server.wait_log(r"hanging\.py\", line 2, in <module>")
    else:
        server.wait_log(rf"Worker \(pid:{first}\) was sent SIGKILL! It had not booted within boot_timeout\.")
    assert server.worker_pid() in server.wait_workers(1)


def test_a_reload_whose_worker_hangs_is_given_up(launch, workdir, module):
    module.write_text(WORKS)
    server = launch("hanging:app", "-w", "2", "--boot-timeout", "1", workdir=workdir, deaths=True)
    before = server.wait_workers(2)
    # Both, for one that has not imported the module yet would hang as well.
    wait_answers(server, before)
    module.write_text(HANGS)
    server.kill(1)
    server.wait_log("Reload given up, the workers stay as they were: a new worker did not boot within boot_timeout")
    killed(server)
    assert server.workers() == before
    assert server.worker_pid() in before
    module.write_text(WORKS)
    server.kill(1)
    server.wait_workers(2, without=before)


def test_it_is_off_by_default(launch, workdir, module):
    module.write_text("import time\ntime.sleep(2.5)\n" + WORKS)
    server = launch("hanging:app", "--timeout", "1", workdir=workdir)
    assert server.get("/pid").status == 200
