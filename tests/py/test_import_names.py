"""`import gunicorn` in the server's processes, and only there: rgunicorn's own, with and without Gunicorn installed.

What the names do is tried by both servers (`tests/apps/import_probes.py`); what is rgunicorn's alone is marked so.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import rgunicorn
from harness import APPS, run_to_end
from import_lines import GONE, LINES
from import_values import EXPECTED

pytestmark = pytest.mark.one_driver
own = pytest.mark.own(reason="under Gunicorn the names are Gunicorn's")

PACKAGE = Path(rgunicorn.__file__).parent
# What configuration files and embedding programs import.
NAMES = [
    "gunicorn", "gunicorn.app.base", "gunicorn.app.wsgiapp", "gunicorn.app.pasterapp", "gunicorn.arbiter",
    "gunicorn.config", "gunicorn.debug", "gunicorn.errors", "gunicorn.glogging", "gunicorn.instrument.statsd",
    "gunicorn.pidfile", "gunicorn.reloader", "gunicorn.sock", "gunicorn.systemd", "gunicorn.util", "gunicorn.workers",
    "gunicorn.workers.base", "gunicorn.workers.base_async", "gunicorn.workers.sync", "gunicorn.workers.gthread",
    "gunicorn.workers.ggevent", "gunicorn.workers.gtornado", "gunicorn.workers.workertmp", "gunicorn.http",
    "gunicorn.http.body", "gunicorn.http.errors", "gunicorn.http.message", "gunicorn.http.parser",
    "gunicorn.http.unreader", "gunicorn.http.wsgi",
]  # fmt: skip
CONFIG = f"""
import importlib, json
from gunicorn import SERVER_SOFTWARE, __version__, util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.config import Config
import gunicorn

gunicorn.SERVER = "shop"
with open("names.json", "w") as file:
    json.dump({{name: importlib.import_module(name).__file__ for name in {NAMES!r}}}, file)
"""
# A module that Python imports at its start: the installed Gunicorn cannot be found.
HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "gunicorn" and path is None:
            raise ModuleNotFoundError("No module named 'gunicorn'", name=name)
        return None

sys.meta_path.insert(0, Hide())
"""
# Runs statements, and writes what each raises.
STATEMENTS = """
import json

found = {{}}
for statement in {statements!r}:
    try:
        exec(statement, {{}})
        found[statement] = None
    except Exception as error:
        found[statement] = [type(error).__name__, str(error)]
with open("statements.json", "w") as file:
    json.dump(found, file)
"""


def assert_ours(server):
    files = json.loads((server.workdir / "names.json").read_text())
    assert sorted(files) == sorted(NAMES)
    assert [name for name, file in files.items() if PACKAGE not in Path(file).parents] == []
    assert server.get("/").header("Server") == "shop"


@own
def test_a_configuration_file_gets_our_names(launch):
    assert importlib.util.find_spec("gunicorn") is not None
    assert_ours(launch("http_app:app", config=CONFIG))


@own
def test_without_gunicorn(launch, workdir):
    (workdir / "sitecustomize.py").write_text(HIDDEN)
    env = {"PYTHONPATH": f"{workdir}:{APPS}"}
    assert_ours(launch("http_app:app", config=CONFIG, env=env, workdir=workdir))


def answer(code, *args, text=""):
    """What a Python process prints."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def where(*modules):
    """The file that `gunicorn` is in a process that imports these first."""
    lines = "".join(f"import {module}\n" for module in [*modules, "gunicorn"])
    return Path(answer(lines + "print(gunicorn.__file__)").strip())


@own
def test_other_programs_get_the_real_one():
    installed = where()
    assert PACKAGE not in installed.parents
    assert where("rgunicorn", "rgunicorn.glogging", "rgunicorn.app.base") == installed


@own
def test_programs_that_ask_for_ours_get_it():
    assert PACKAGE in where("rgunicorn.compat").parents


@own
def test_a_process_that_has_the_real_one_keeps_all_of_it():
    lines = "import gunicorn, rgunicorn.compat as c, gunicorn.http.errors as e\nprint(e.__file__, *c.names())"
    file, server, software = answer(lines).split()
    assert PACKAGE not in Path(file).parents
    assert (server, software.partition("/")[0]) == ("rgunicorn", "gunicorn")


# What is imported.


def raised(server_or_dir):
    """What each statement of a configuration file has raised."""
    return json.loads((getattr(server_or_dir, "workdir", server_or_dir) / "statements.json").read_text())


def test_the_import_lines_of_public_projects_work(launch):
    assert len(LINES) > 40
    statements = [line for lines in LINES.values() for line in lines]
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=statements)))
    assert {statement: error for statement, error in found.items() if error} == {}


def test_lines_for_older_releases_do_not(launch):
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=list(GONE))))
    assert {statement: error[0] for statement, error in found.items() if error} == GONE


def test_modules_are_there_once_the_package_is(launch):
    """As they are in Gunicorn's processes, which have imported them."""
    statements = [
        "import gunicorn; assert gunicorn.util.parse_address('a:1') == ('a', 1)",
        "import gunicorn; gunicorn.app.base.BaseApplication, gunicorn.arbiter.Arbiter, gunicorn.config.Config",
        "import gunicorn; gunicorn.debug.spew, gunicorn.errors.HaltServer, gunicorn.pidfile.Pidfile",
        "import gunicorn; gunicorn.reloader.Reloader, gunicorn.sock.TCPSocket, gunicorn.systemd.listen_fds",
    ]
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=statements)))
    assert [error for error in found.values() if error] == []


@own
def test_a_missing_name_says_who_answers_and_what_to_do(launch):
    statements = [
        "import gunicorn.asgi.protocol", "from gunicorn.dirty import DirtyArbiter", "import gunicorn.ctl",
        "from gunicorn.http2 import is_http2_available", *GONE,
    ]  # fmt: skip
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=statements)))
    for statement, (_, text) in found.items():
        assert text.startswith("'gunicorn' is rgunicorn's package here, which does not offer 'gunicorn."), statement
    assert "WSGI" in found[statements[0]][1]
    assert "control socket" in found[statements[2]][1]
    assert "run this program under Gunicorn" in found["from gunicorn import run"][1]


HOOKED = """
import sys

class Watch:
    names = []
    def find_spec(self, name, path=None, target=None):
        self.names.append(name)

sys.meta_path.insert(0, Watch())
import gunicorn.http.errors
assert "gunicorn.http.errors" in Watch.names
sys.meta_path.remove(next(finder for finder in sys.meta_path if isinstance(finder, Watch)))
"""


def test_import_hooks_of_others_see_the_modules(launch):
    """Agents that measure applications wrap modules of Gunicorn when they are imported."""
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=[HOOKED])))
    assert found == {HOOKED: None}


@own
def test_a_missing_name_can_be_asked_for(launch):
    statements = [
        "import gunicorn; assert not hasattr(gunicorn, 'six') and getattr(gunicorn.util, 'no', 1) == 1",
        "from importlib.util import find_spec; assert find_spec('gunicorn.asgi') is None",
        "from importlib.util import find_spec; assert find_spec('gunicorn.util') is not None",
    ]
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=statements)))
    assert [error for error in found.values() if error] == []


# What the names do.


@pytest.fixture(scope="module")
def probes(launch_module):
    """What `import_probes` has found in a configuration file."""
    server = launch_module("http_app:app", config="import import_probes\nimport_probes.write('probes.json')\n")
    return json.loads((server.workdir / "probes.json").read_text())


@pytest.mark.parametrize("subject", EXPECTED)
def test_a_name_does_what_it_does_in_gunicorn(probes, subject):
    assert probes[subject] == EXPECTED[subject]


def test_all_that_is_tried_is_expected(probes):
    assert sorted(probes) == sorted(EXPECTED)


HOOK = """
import json
from gunicorn import sock

def when_ready(server):
    shown = [
        [type(one).__name__, one.FAMILY == one.sock.family == one.family, one.getsockname()[:1], one.get_backlog(),
         isinstance(one, sock.BaseSocket), isinstance(one, sock.TCPSocket)]
        for one in server.LISTENERS
    ]
    with open("sockets.json", "w") as file:
        json.dump(shown, file)
"""


def test_listening_sockets_have_their_classes(launch):
    server = launch("http_app:app", "--bind", "[::1]:0", "--bind", "unix:one.sock", config=HOOK)
    server.get("/")
    assert json.loads((server.workdir / "sockets.json").read_text()) == [
        ["TCPSocket", True, ["127.0.0.1"], 0, True, True],
        ["TCP6Socket", True, ["::1"], 0, True, True],
        ["UnixSocket", True, "o", -1, True, False],
    ]


def test_the_server_header_can_be_set_where_gunicorn_reads_it(launch):
    config = "from gunicorn.http import wsgi\nwsgi.SERVER = 'shop'\nwsgi.SERVER_SOFTWARE = 'Shop/2'\n"
    server = launch("http_app:app", config=config)
    answer = server.get("/environ")
    assert answer.header("Server") == "shop"
    assert json.loads(answer.body)["SERVER_SOFTWARE"] == "Shop/2"


HANDLED = """
from gunicorn.workers.base_async import ALREADY_HANDLED

def app(environ, start_response):
    environ["gunicorn.socket"].sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\nmine")
    return ALREADY_HANDLED
"""


def test_an_application_may_say_that_it_has_answered(launch_gevent, workdir):
    (workdir / "handled.py").write_text(HANDLED)
    server = launch_gevent("handled:app", workdir=workdir)
    assert server.get("/").body == b"mine"
    assert "ERROR" not in server.log


def test_a_wrong_application_is_gunicorns_error(launch, workdir):
    """The class that `load` lets pass is known to the server: status 4."""
    (workdir / "wrong.py").write_text("from gunicorn.errors import AppImportError\nraise AppImportError('not here')\n")
    done = run_to_end(launch.flavour, workdir, "-b", "127.0.0.1:0", "wrong:app")
    assert (done.returncode, "not here" in done.stderr) == (4, True)


RAISES = """
from gunicorn.http import errors

def app(environ, start_response):
    raise getattr(errors, environ["QUERY_STRING"])("reason")
"""


@own
def test_an_error_of_the_parser_is_no_special_one_where_an_application_raises_it(launch, workdir):
    (workdir / "raises.py").write_text(RAISES)
    server = launch("raises:app", workdir=workdir)
    assert [server.get(f"/?{name}").status for name in ("InvalidHeader", "ForbiddenProxyRequest")] == [500, 500]
    assert "InvalidHeader: Bad header field: 'reason'" in server.log


# What is a name only.


@own
def test_names_that_do_nothing_say_so_when_they_are_used(launch):
    statements = [
        "from gunicorn.workers.ggevent import PyWSGIHandler; PyWSGIHandler(1, 2, 3)",
        "from gunicorn.workers.ggevent import PyWSGIServer; PyWSGIServer(None)",
        "from gunicorn.workers.gthread import TConn; TConn(1, 2, 3, 4)",
        "from gunicorn.http.parser import RequestParser; RequestParser(1, 2, 3)",
        "from gunicorn.http.body import LengthReader; LengthReader(1, 2)",
        "from gunicorn.http.unreader import SocketUnreader; SocketUnreader(1)",
        "from gunicorn.http.wsgi import create; create(1, 2, 3, 4, 5)",
        "from gunicorn.http.wsgi import Response; Response('200 OK', [], 0, (1, 1, 1), None).default_headers()",
        "from gunicorn.sock import TCPSocket; TCPSocket(('127.0.0.1', 0), None, None)",
        "from gunicorn.sock import create_sockets; create_sockets(None, None)",
        "from gunicorn.sock import close_sockets; close_sockets([])",
        "from gunicorn.workers.sync import SyncWorker; SyncWorker.handle(1, 2, 3, 4)",
    ]
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=statements)))
    for statement, (kind, text) in found.items():
        assert kind == "NotImplementedError", statement
        assert "is only a name under rgunicorn, whose server is native. " in text, statement


SUBCLASSES = """
import abc
from gevent import pywsgi
from gunicorn.workers import base_async, ggevent, sync

class Handler(ggevent.PyWSGIHandler, pywsgi.WSGIHandler): pass
class Server(ggevent.PyWSGIServer): pass
class Worker(ggevent.GeventPyWSGIWorker): server_class, wsgi_handler = Server, Handler
class Abstract(sync.SyncWorker, abc.ABC): pass
assert issubclass(Worker, base_async.AsyncWorker)
"""


def test_packages_may_subclass_names(launch):
    """As those of WebSockets do, when they are imported."""
    found = raised(launch("http_app:app", config=STATEMENTS.format(statements=[SUBCLASSES])))
    assert [error for error in found.values() if error] == []


PATCHES = """
from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.workers.sync import SyncWorker

class Quiet(wsgi.Response):
    def default_headers(self):
        return [line for line in super().default_headers() if not line.startswith("Server:")]

wsgi.Response.default_headers = Quiet.default_headers
wsgi.Response = Quiet
message.MAX_REQUEST_LINE = 0
util._setproctitle = print
SyncWorker.handle = print
util.of_its_own = 1
"""


@own
def test_a_name_that_is_replaced_in_vain_warns(launch):
    server = launch("http_app:app", config=PATCHES)
    assert server.get("/").status == 200
    for name, advice in (
        ("gunicorn.http.wsgi.Response.default_headers", "To change the Server header, set gunicorn.SERVER."),
        ("gunicorn.http.wsgi.Response", "To change the Server header, set gunicorn.SERVER."),
        ("gunicorn.http.message.MAX_REQUEST_LINE", "Use the setting limit_request_line."),
        ("gunicorn.util._setproctitle", "Use the setting proc_name."),
        ("gunicorn.workers' class.handle", "See gunicorn-differences.md"),
    ):
        assert f"RuntimeWarning: Replacing {name} has no effect: " in server.log, name
        assert advice in server.log.partition(f"Replacing {name} has")[2].partition("\n")[0]
    assert "of_its_own" not in server.log


# Public names of the installed Gunicorn's modules that rgunicorn's do not have, by module.
NOT_OFFERED = {
    "gunicorn.config": {
        "SettingMeta", "VALID_HTTP_PROTOCOLS", "ALPN_PROTOCOL_MAP", "validate_asgi_lifespan", "validate_asgi_loop",
        "validate_chdir", "validate_group", "validate_header_map_behaviour", "validate_http2_cleartext",
        "validate_http2_frame_size", "validate_http2_stream_limit", "validate_http2_window_size",
        "validate_http_parser", "validate_http_protocols", "validate_list_of_files_or_patterns",
        "validate_post_request",
        "validate_proxy_protocol", "validate_reload_engine", "validate_ssl_version", "validate_statsd_address",
        "validate_string_to_addr_list", "validate_user",
    },
    "gunicorn.http": {"get_parser"},
    "gunicorn.http.body": {
        "CHUNK_EXT_RE", "DEFAULT_MAX_CHUNK_SIZE_LINE", "DEFAULT_MAX_TRAILER_SECTION", "MAX_READ_STEP",
    },
    "gunicorn.http.message": {
        "HeaderPolicy", "METHOD_BADCHAR_RE", "PPCommand", "PPFamily", "PPProtocol", "PP_V2_SIGNATURE",
        "RFC9110_5_3_SINGLETON_FIELDS", "RFC9110_5_5_INVALID_AND_DANGEROUS", "RFC9110_5_6_2_TOKEN_SPECIALS",
        "RFC9110_6_5_1_FORBIDDEN_TRAILER", "RFC9112_TARGET_INVALID", "TOKEN_RE", "VERSION_RE",
    },
    "gunicorn.http.wsgi": {"BLKSIZE", "HEADER_VALUE_RE", "STATUS_RE"},
    "gunicorn.reloader": {"COMPILED_EXT_RE", "has_inotify", "symlink_target_dir"},
    "gunicorn.sock": {"get_negotiated_protocol", "is_http2_negotiated"},
    "gunicorn.util": {"GLOB_MAGIC_RE", "positionals"},
    "gunicorn.workers.gthread": {"DEFAULT_WORKER_DATA_TIMEOUT", "PollableMethodQueue", "STOP_KEEPALIVE_LINGER"},
}  # fmt: skip
# The names that modules define; what they import is not theirs.
DEFINED = """
import ast, importlib, json, sys
from pathlib import Path

import gunicorn

home = Path(gunicorn.__file__).parent
found = {}
for name in sys.argv[1:]:
    path = home.joinpath(*name.split(".")[1:])
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    names = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assigned = [one for node in tree.body if isinstance(node, ast.Assign) for one in node.targets]
    names += [one.id for one in assigned if isinstance(one, ast.Name)]
    found[name] = [one for one in names if not one.startswith("_") and one != "PLATFORM"]
print(json.dumps(found))
"""
HAVE = """
import importlib, json, sys
import rgunicorn.compat

def missing(module, names):
    return [name for name in names if not hasattr(importlib.import_module(module), name)]

print(json.dumps({module: missing(module, names) for module, names in json.load(sys.stdin).items()}))
"""


@own
def test_what_is_not_offered_is_written_down():
    modules = [name for name in NAMES if not name.endswith(("gtornado", "workertmp"))]
    defined = answer(DEFINED, *modules)
    assert len(json.loads(defined)) == len(modules)
    missing = json.loads(answer(HAVE, text=defined))
    assert {name: set(names) for name, names in missing.items() if names} == NOT_OFFERED
