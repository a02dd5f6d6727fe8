"""Settings whose effect no other file shows: of the parser, of dry runs, what is only accepted, checked or refused."""

import json
import re
import socket

import pytest
from conf_files import PASTE_LOGGING
from harness import run_to_end, wait_for
from rawhttp import request

pytestmark = pytest.mark.one_driver


def answer(server, data, method="GET"):
    """The status of raw bytes as a request on a connection of their own, and what the application was told."""
    with server.client() as client:
        client.send(data)
        response = client.response(method)
    return response.status, json.loads(response.body) if response.status == 200 else None


def raw(*fields, line="GET /environ HTTP/1.1"):
    return "\r\n".join([line, "Host: shop", *fields, "", ""]).encode()


# The parser.


@pytest.mark.parametrize(
    ("flags", "data", "key", "value"),
    [
        (["--permit-obsolete-folding"], raw("X-Long: one", "  two"), "HTTP_X_LONG", "one two"),
        (["--strip-header-spaces"], raw("X-Space : kept"), "HTTP_X_SPACE", "kept"),
        (
            ["--permit-unconventional-http-method"],
            raw(line="get /environ HTTP/1.1"),
            "REQUEST_METHOD",
            "get",
        ),
        (
            ["--permit-unconventional-http-method", "--casefold-http-method"],
            raw(line="get /environ HTTP/1.1"),
            "REQUEST_METHOD",
            "GET",
        ),
        (
            ["--permit-unconventional-http-version"],
            raw(line="GET /environ HTTP/2.3"),
            "SERVER_PROTOCOL",
            "HTTP/2.3",
        ),
    ],
    ids=["folding", "spaces", "method", "casefold", "version"],
)
def test_what_the_parser_lets_pass(launch, flags, data, key, value):
    strict = launch("http_app:app")
    assert answer(strict, data)[0] in (400, 505)
    status, environ = answer(launch("http_app:app", *flags), data)
    assert (status, environ[key]) == (200, value)


@pytest.mark.parametrize(
    ("flags", "status", "passed"),
    [
        ([], 200, False),
        (["--header-map", "drop"], 200, False),
        (["--header-map", "refuse"], 400, False),
        (["--header-map", "dangerous"], 200, True),
        (["--forwarder-headers", "X_USER,X_ROLE"], 200, True),
        (["--forwarder-headers", "X_USER", "--header-map", "refuse"], 200, True),
        # Only of those who are trusted.
        (["--forwarder-headers", "X_USER", "--forwarded-allow-ips", "10.0.0.1"], 200, False),
    ],
    ids=["default", "drop", "refuse", "dangerous", "named", "named-else-refused", "stranger"],
)
def test_header_names_with_underscores(launch, flags, status, passed):
    found, environ = answer(launch("http_app:app", *flags), raw("X_User: admin"))
    assert found == status
    assert status != 200 or ("HTTP_X_USER" in environ) == passed


@pytest.mark.parametrize("value", ["auto", "python"])
def test_http_parser(launch, value):
    assert launch("http_app:app", "--http-parser", value).get("/").status == 200


@pytest.mark.own(reason="Gunicorn has no such parser unless a package is installed")
def test_http_parser_fast(launch):
    assert launch("http_app:app", "--http-parser", "fast").get("/").status == 200


@pytest.mark.parametrize(
    ("args", "config", "env"),
    [(["--no-sendfile"], None, None), ([], "sendfile = False\n", None), ([], None, {"SENDFILE": "0"})],
    ids=["flag", "file", "environment"],
)
def test_files_are_sent_without_sendfile(launch, args, config, env):
    """What cannot be seen is how; that it is whole can."""
    server = launch("wsgi_app:app", *args, config=config, env=env)
    with_it = launch("wsgi_app:app")
    target = "/file?size=300000"
    assert server.get(target).body == with_it.get(target).body
    assert len(server.get(target).body) == 300_000


# Accepted.

LATER = {
    "asgi_loop": "asyncio", "asgi_lifespan": "off", "asgi_disconnect_grace_period": 5,
    "websocket_max_message_size": 1024, "root_path": "/shop", "uwsgi_allow_ips": "*",
    "http2_max_concurrent_streams": 50, "http2_initial_window_size": 70000, "http2_max_frame_size": 20000,
    "http2_max_header_list_size": 1024, "dirty_timeout": 5, "dirty_threads": 2, "dirty_graceful_timeout": 3,
    "control_socket": "shop.ctl", "control_socket_mode": 0o660,
}  # fmt: skip
HOOKS = """
def on_dirty_starting(arbiter):
    pass

def dirty_post_fork(arbiter, worker):
    pass

def dirty_worker_init(worker):
    pass

def dirty_worker_exit(arbiter, worker):
    pass
"""


def test_what_has_no_effect_stops_nobody(launch):
    lines = [f"{name} = {value!r}\n" for name, value in LATER.items()]
    server = launch("http_app:app", config="".join([*lines, HOOKS]))
    environ = json.loads(server.get("/environ").body)
    assert environ["SCRIPT_NAME"] == ""
    if server.flavour.own:
        warned = set(re.findall(r"\[WARNING\] Setting (\w+) has no effect in this release", server.log))
        assert warned == {*LATER, *re.findall(r"def (\w+)", HOOKS)}


def test_tls_settings_alone_switch_nothing_on(launch):
    config = "import ssl\ncert_reqs = ssl.CERT_REQUIRED\nciphers = 'HIGH'\nsuppress_ragged_eofs = False\n"
    config += "do_handshake_on_connect = True\n\n"
    config += "def ssl_context(config, default_factory):\n    return default_factory()\n"
    assert launch("http_app:app", config=config).get("/").status == 200
    flags = ["--cert-reqs", "1", "--suppress-ragged-eofs", "--do-handshake-on-connect", "--ciphers", "HIGH"]
    assert launch("http_app:app", *flags, "--ca-certs", "/no/such.pem").get("/").status == 200


# Refused.


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("asgi_loop = 'curio'", "asgi_loop"),
        ("asgi_lifespan = 'maybe'", "asgi_lifespan"),
        ("asgi_disconnect_grace_period = -1", "asgi_disconnect_grace_period"),
        ("websocket_max_message_size = 'much'", "websocket_max_message_size"),
        ("http_protocols = 'h3'", "http_protocols"),
        ("http2_cleartext = 'perhaps'", "http2_cleartext"),
        ("http2_max_concurrent_streams = 0", "http2_max_concurrent_streams"),
        ("http2_initial_window_size = 2**31", "http2_initial_window_size"),
        ("http2_max_frame_size = 100", "http2_max_frame_size"),
        ("http2_max_header_list_size = -1", "http2_max_header_list_size"),
        ("header_map = 'keep'", "header_map"),
        ("http_parser = 'slow'", "http_parser"),
        ("dirty_workers = -1", "dirty_workers"),
        ("control_socket_mode = 'rw'", "control_socket_mode"),
        ("uwsgi_allow_ips = '10.0.0.1/8'", "uwsgi_allow_ips"),
        ("root_path = 5", "root_path"),
        ("suppress_ragged_eofs = 'never'", "suppress_ragged_eofs"),
        ("def ssl_context(config):\n    pass", "ssl_context"),
        ("def dirty_post_fork(worker):\n    pass", "dirty_post_fork"),
    ],
    ids=lambda value: value.partition(" =")[0] if "=" in value else "",
)
def test_values_that_are_refused(flavour, workdir, config, name):
    (workdir / "conf.py").write_text(config + "\n")
    done = run_to_end(flavour, workdir, "-b", "127.0.0.1:0", "-c", "conf.py", "http_app:app")
    assert done.returncode == 1
    assert f"Invalid value for {name}: " in done.stderr


@pytest.mark.own(reason="Gunicorn has them")
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--certfile", "cert.pem"], "certfile: TLS is not available yet"),
        (["--keyfile", "key.pem"], "keyfile: TLS is not available yet"),
        (["--http-protocols", "h2,h1"], "http_protocols: HTTP/2 is not available yet"),
        (["--protocol", "uwsgi"], "protocol: "),
        (["--dirty-app", "tasks:Pool", "--dirty-workers", "1"], "dirty_workers: dirty workers are not available"),
    ],
    ids=["certfile", "keyfile", "h2", "uwsgi", "dirty"],
)
def test_what_is_not_there_is_refused_by_name(flavour, workdir, args, words):
    done = run_to_end(flavour, workdir, "-b", "127.0.0.1:0", *args, "http_app:app")
    assert done.returncode == 1
    assert f"Error: {words}" in done.stderr
    assert "Traceback" not in done.stderr


# Paste.


@pytest.mark.parametrize(
    ("conf", "name", "value"),
    [("colour=blue", "colour", "blue"), (r"sum=1\=1", "sum", "1=1")],
    ids=["plain", "escaped"],
)
def test_paste(launch, workdir, conf, name, value):
    (workdir / "shop.ini").write_text("[app:main]\npaste.app_factory = pasted:factory\nsize = 5\n")
    server = launch(None, "--paste", "shop.ini", "--paste-global", conf, workdir=workdir)
    global_conf, local = json.loads(server.get("/").body)
    assert (global_conf[name], local) == (value, {"size": "5"})


# Logs.


def test_the_backlog_metric(launch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(0.5)
        port = collector.getsockname()[1]
        server = launch("http_app:app", "--statsd-host", f"127.0.0.1:{port}", "--enable-backlog-metric")
        assert server.get("/").status == 200

        def metric():
            try:
                return re.match(rb"gunicorn\.backlog:\d+\|h", collector.recv(4096))
            except TimeoutError:
                return None

        wait_for("the metric", metric)


@pytest.mark.own
def test_the_access_log_as_json_without_health_checks(launch):
    flags = ["--access-log-json", "--access-log-exclude", "/healthz", "--access-log-exclude", "4xx"]
    server = launch("http_app:app", "--access-logfile", "access.log", *flags)
    for target in ("/healthz", "/missing", "/?a=1"):
        server.get(target)
    log = server.workdir / "access.log"
    wait_for("a record", lambda: log.exists() and log.read_text().count("\n") == 1)
    record = json.loads(log.read_text())
    assert (record["path"], record["query"], record["status"]) == ("/", "a=1", 200)


# Dry runs.


def test_a_dry_run_says_nothing(flavour, workdir):
    (workdir / "conf.py").write_text("workers = 3\nbind = '127.0.0.1:1'\n")
    done = run_to_end(flavour, workdir, "--check-config", "-c", "conf.py", "http_app:app")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("flag", ["--check-config", "--print-config"])
def test_a_dry_run_loads_the_application(flavour, workdir, flag):
    (workdir / "broken.py").write_text("import no_such_module\n")
    done = run_to_end(flavour, workdir, flag, "broken:app", env={"PYTHONPATH": str(workdir)})
    assert done.returncode == 1
    assert "\nError while loading the application:\n" in done.stderr
    assert "No module named 'no_such_module'" in done.stderr
    assert bool(done.stdout) == (flag == "--print-config")


def test_a_dry_run_refuses_values_first(flavour, workdir):
    done = run_to_end(flavour, workdir, "--check-config", "-c", "/no/such.py", "http_app:app")
    assert done.returncode == 1
    assert "'/no/such.py' doesn't exist" in done.stderr


@pytest.mark.own(reason="Gunicorn ignores names that it does not know")
def test_a_dry_run_warns_of_names_that_nobody_knows(flavour, workdir):
    (workdir / "conf.py").write_text("wokers = 3\n")
    done = run_to_end(flavour, workdir, "--check-config", "-c", "conf.py", "http_app:app")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Unknown setting wokers in the configuration file: did you mean workers?" in done.stderr


def test_request_lines_are_not_shortened(launch):
    """Limits of 0: no limit of the line, the built-in ones of the fields."""
    server = launch("http_app:app", "--limit-request-line", "0", "--limit-request-field_size", "0")
    with server.client() as client:
        client.send(request("/?" + "x" * 8000))
        assert client.response().status == 200
    status, _ = answer(server, raw("X-Long: " + "x" * 9000))
    assert status == 431


LOGGERS = f"""
[app:main]
paste.app_factory = pasted:factory
{PASTE_LOGGING}"""


def test_paste_configures_logging(launch, workdir):
    (workdir / "shop.ini").write_text(LOGGERS)
    server = launch(None, "--paste", "shop.ini", workdir=workdir, quiet=True, bind="unix:server.sock")
    assert server.get("/").status == 200
    text = (workdir / "paste.log").read_text()
    assert re.search("by paste: Booting worker with pid", text), text


def test_a_setting_wins_over_logging_of_paste(launch, workdir):
    (workdir / "shop.ini").write_text(LOGGERS)
    (workdir / "own.ini").write_text(LOGGERS.replace("paste.log", "own.log"))
    server = launch(
        None, "--paste", "shop.ini", "--log-config", "own.ini", workdir=workdir, quiet=True, bind="unix:server.sock"
    )
    assert server.get("/").status == 200
    assert (workdir / "own.log").exists()
    assert not (workdir / "paste.log").exists()


def test_a_paste_file_that_is_missing(flavour, workdir):
    done = run_to_end(flavour, workdir, "--bind", "127.0.0.1:0", "--paste", "missing.ini")
    assert done.returncode == 1, done.stderr
    assert "missing.ini" in done.stderr
    assert "Traceback" not in done.stderr
