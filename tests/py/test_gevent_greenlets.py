"""The greenlets of requests, among others that gevent makes."""

import json

import pytest

TREE = """
import json

import gevent
from gevent import Greenlet, config, get_hub, getcurrent

outside = Greenlet(lambda: None)
asked = config.track_greenlet_tree

def describe():
    me = getcurrent()
    return me.spawn_tree_locals, me.spawning_greenlet and me.spawning_greenlet()

def app(environ, start_response):
    me = getcurrent()
    me.spawn_tree_locals["shared"] = "text"
    child = gevent.spawn(describe)
    child.join()
    locals_of_child, spawner = child.value
    grandchild = gevent.spawn(lambda: gevent.spawn(describe).get())
    found = {
        "class": type(me) is Greenlet,
        "begun": bool(me) and me.started and not me.ready(),
        "shared": locals_of_child is me.spawn_tree_locals is grandchild.get()[0],
        "spawner": spawner is me,
        "stack": child.spawning_stack is not None,
        "asked": [asked, config.track_greenlet_tree, gevent.config.settings["track_greenlet_tree"].get()],
    }
    if environ["PATH_INFO"] == "/off":
        config.track_greenlet_tree = False
        off = gevent.spawn(describe)
        off.join()
        config.track_greenlet_tree = True
        on = gevent.spawn(describe)
        on.join()
        found["off"] = [off.value[0] is None, off.spawning_stack is None, on.value[1] is me]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
"""


@pytest.mark.parametrize("path", ["/", "/off"])
def test_what_a_request_spawns_is_tracked_as_gevent_says(launch_gevent, workdir, path):
    (workdir / "tree.py").write_text(TREE)
    server = launch_gevent("tree:app", workdir=workdir)
    expected = {"class": True, "begun": True, "shared": True, "spawner": True, "stack": True, "asked": [True] * 3}
    if path == "/off":
        expected["off"] = [True] * 3
    for _ in range(3):
        with server.client() as client:
            for _ in range(3):
                assert json.loads(client.get(path).body) == expected


SHARED = """
from gevent import get_hub, getcurrent

def app(environ, start_response):
    mine = getcurrent().spawn_tree_locals
    seen = sorted(mine)
    mine[environ["PATH_INFO"]] = True
    start_response("200 OK", [])
    return [repr((seen, mine is get_hub().spawn_tree_locals)).encode()]
"""


def test_requests_share_what_the_hub_hands_down(launch_gevent, workdir):
    (workdir / "shared.py").write_text(SHARED)
    server = launch_gevent("shared:app", workdir=workdir)
    seen = []
    for path in ("/a", "/b", "/c"):
        assert server.get(path).body == repr((seen, True)).encode()
        seen.append(path)


SWITCHED_OFF = """
from gevent import getcurrent

def app(environ, start_response):
    me = getcurrent()
    start_response("200 OK", [])
    return [repr((me.spawn_tree_locals, me.spawning_greenlet, me.spawning_stack)).encode()]
"""


def test_a_program_may_switch_the_tracking_off(launch_gevent, workdir):
    (workdir / "off.py").write_text(SWITCHED_OFF)
    server = launch_gevent("off:app", workdir=workdir, env={"GEVENT_TRACK_GREENLET_TREE": "0"})
    for _ in range(3):
        assert server.get("/").body == b"(None, None, None)"


COLLECTED = """
import gc
import gevent
from gevent import getcurrent

class Spawner:
    def __init__(self):
        self.me = self

    def __del__(self):
        spawned.append(gevent.spawn(int))

spawned = []
gc.set_threshold(1)

def app(environ, start_response):
    for _ in range(5):
        Spawner()
    start_response("200 OK", [])
    tracked = [greenlet.spawn_tree_locals is not None for greenlet in spawned]
    mine = getcurrent().spawn_tree_locals is not None
    return [repr((all(tracked), mine, gc.isenabled())).encode()]
"""


def test_finalizers_that_spawn_are_tracked(launch_gevent, workdir):
    """The cycle collector runs whenever anything is made: also while a request's greenlet is."""
    (workdir / "collected.py").write_text(COLLECTED)
    server = launch_gevent("collected:app", workdir=workdir)
    for _ in range(50):
        assert server.get("/").body == b"(True, True, True)"
