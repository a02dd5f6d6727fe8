"""Who patches, and when: the server, the application, its configuration file or a hook, with and without preloading."""

import json

import pytest
from harness import APPS, bodies, run_to_end

AT_TOP = "from gevent import monkey\nmonkey.patch_all()\n"
POST_FORK = "def post_fork(server, worker):\n    from gevent import monkey\n    monkey.patch_all()\n"
MEETING = ["/meet?name=meeting&n=4"] * 4


def assert_cooperative(server):
    """Requests wait for each other, which would take for ever if they ran one by one."""
    assert bodies(server.together(MEETING)) == ["met"] * 4


def test_the_server_patches_before_the_application_is_imported(launch_gevent):
    server = launch_gevent("coop_bare:app")
    found = json.loads(server.get("/patched").body)
    assert [name for name, patched in found["import"].items() if not patched] == []
    assert_cooperative(server)


def test_an_application_that_knows_nothing_of_gevent(launch_gevent):
    server = launch_gevent("coop_bare:app")
    assert_cooperative(server)
    assert server.get("/multithread").body == b"True"


def test_patching_is_silent(launch_gevent):
    """The server imports nothing too early (`ssl` is known for it), so gevent has nothing to warn of."""
    server = launch_gevent("coop_bare:app", env={"PYTHONWARNINGS": "default"})
    assert_cooperative(server)
    assert "Warning" not in server.log


def test_the_application_patches_itself(launch_patched):
    assert_cooperative(launch_patched("coop:app"))


def test_the_application_patches_itself_and_is_preloaded(launch_patched):
    server = launch_patched("coop:app", "--preload", "--workers", "2")
    server.wait_workers(2)
    server.worker_pid()
    for worker in range(5):
        # One connection, one worker: its requests have to be those that meet, so each meeting is of one.
        assert server.get(f"/meet?name=preloaded{worker}&n=1").body == b"met"


def test_preloaded_requests_wait_side_by_side(launch_patched):
    assert_cooperative(launch_patched("coop:app", "--preload"))


def test_a_preloaded_application_that_has_a_hub(launch_patched):
    """What was made before the fork (a queue, a semaphore, the hub itself) goes on in the worker."""
    server = launch_patched("coop_hub:app", "--preload")
    assert bodies(server.together(["/token?name=token&n=4"] * 4)) == ["ok"] * 4


def test_the_configuration_file_patches(launch_patched):
    assert_cooperative(launch_patched("coop_bare:app", config=AT_TOP))


def test_a_hook_patches_in_the_worker(launch_patched):
    assert_cooperative(launch_patched("coop_bare:app", config=POST_FORK))


def test_a_hook_patches_after_preloading(launch_patched):
    """Only what the application takes from the patched modules later is patched; so it serves, and that is all."""
    server = launch_patched("coop_bare:app", config=POST_FORK + "preload_app = True\n")
    assert server.get("/meet?n=1").body == b"met"


@pytest.mark.own
@pytest.mark.one_thread
def test_without_patching_requests_run_one_by_one(launch):
    server = launch("coop_bare:app")
    found = json.loads(server.get("/patched").body)
    assert not any(found["now"].values())
    assert server.get("/multithread").body == b"False"


@pytest.mark.own
def test_gevent_runs_on_our_loop(launch_patched):
    server = launch_patched("coop_bare:app", config=AT_TOP)
    assert server.get("/loop").body.startswith(b"rgunicorn.")


def test_programs_of_the_application_have_gevents_own_loop(launch_gevent):
    """They may run where this server is not installed."""
    loop, variable = launch_gevent("coop_bare:app").get("/child").body.decode().split()
    assert loop.startswith("gevent.")
    assert variable == "None"


def test_without_gevent_the_start_ends_with_its_name(gevent_flavour, workdir):
    (workdir / "gevent.py").write_text("raise ImportError('hidden by the test')\n")
    result = run_to_end(
        gevent_flavour, workdir, "--bind", "127.0.0.1:0", "coop_bare:app", env={"PYTHONPATH": f"{workdir}:{APPS}"}
    )
    assert result.returncode != 0
    assert "gevent" in result.stdout + result.stderr
