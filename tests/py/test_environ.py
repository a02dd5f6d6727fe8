"""The environ dictionary, key by key, over IPv4, IPv6 and a unix socket."""

import json

import pytest
from rawhttp import Client, request


def decoded(response):
    assert response.status == 200, response
    return json.loads(response.body)


def environ(server, target="/environ", **options):
    return decoded(server.get(target, **options))


@pytest.fixture(scope="module")
def server(launch_module):
    return launch_module("http_app:app")


@pytest.fixture(scope="module")
def everywhere(launch_module):
    """A server with a listener of each family."""
    return launch_module("http_app:app", "--bind", "[::1]:0", "--bind", "unix:server.sock", "-w", "2")


def test_the_whole_dictionary(server):
    """Nothing is missing and nothing is there that Gunicorn does not have."""
    with server.client() as client:
        port = client.sock.getsockname()[1]
        found = decoded(client.get("/environ?a=1", headers={"X-One": "1"}, body=b"hello"))
    text = {key: value for key, value in found.items() if isinstance(value, str)}
    software = text.pop("SERVER_SOFTWARE")
    assert software.startswith("gunicorn/")
    assert software[-1].isdigit()
    assert text == {
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "a=1",
        "RAW_URI": "/environ?a=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "CONTENT_LENGTH": "5",
        "HTTP_HOST": "example.test",
        "HTTP_X_ONE": "1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.address[1]),
        "wsgi.url_scheme": "http",
    }
    other = {key: value for key, value in found.items() if not isinstance(value, str)}
    own = {"rgunicorn.client_disconnected"} if server.flavour.own else set()
    assert set(other) - own == {
        "wsgi.version", "wsgi.input", "wsgi.input_terminated", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess",
        "wsgi.run_once", "wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket",
    }  # fmt: skip
    assert other["wsgi.version"] == ["tuple", "(1, 0)"]
    assert other["wsgi.input_terminated"] == ["bool", "True"]
    assert other["wsgi.run_once"] == ["bool", "False"]
    assert other["wsgi.multiprocess"] == ["bool", "False"]
    assert other["wsgi.multithread"] == ["bool", str(server.flavour.threads)]
    assert other["wsgi.file_wrapper"][0] == "type"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/environ", "/environ", ""),
        ("/environ?", "/environ", ""),
        ("/environ?a=b?c&d=%20%zz", "/environ", "a=b?c&d=%20%zz"),
        ("/%65nviron", "/environ", ""),
        ("/environ#fragment", "/environ", ""),
        ("/environ?q#fragment", "/environ", "q"),
        ("http://other.test:81/environ?x", "/environ", "x"),
    ],
)
def test_target(server, target, path, query):
    found = environ(server, target)
    assert (found["RAW_URI"], found["PATH_INFO"], found["QUERY_STRING"]) == (target, path, query)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b%2Fc", "/a b/c"),
        ("//a//b", "//a//b"),
        ("/%C3%A9%ff", "/\xc3\xa9\xff"),
        ("/%zz%4", "/%zz%4"),
        ("/a;p=1/b", "/a;p=1/b"),
        ("/./a/../b", "/./a/../b"),
        ("/+", "/+"),
        ("/%00", "/\0"),
        ("http://other.test", ""),
    ],
)
def test_path_info(launch_paths, target, path):
    assert environ(launch_paths, target)["PATH_INFO"] == path


@pytest.fixture(scope="module")
def launch_paths(launch_module):
    """A server whose application answers every path with its environ."""
    return launch_module("http_app:show_every_environ")


@pytest.mark.own
@pytest.mark.parametrize(
    ("target", "options", "host"),
    [
        ("http://other.test:81/environ", {}, "other.test:81"),
        ("http://[::1]/environ", {"host": ""}, "[::1]"),
        ("http://other.test/environ", {"host": None, "version": "HTTP/1.0"}, "other.test"),
    ],
)
def test_the_host_of_an_absolute_target_counts(server, everywhere, target, options, host):
    """RFC 9112 section 3.2.2: the Host field is ignored then. Gunicorn goes by the field."""
    assert environ(server, target, **options)["HTTP_HOST"] == host
    with Client(everywhere.addresses[2]) as client:
        found = decoded(client.get(target, **options))
    assert f"{found['SERVER_NAME']}:{found['SERVER_PORT']}".startswith(host)


@pytest.mark.own
def test_the_target_of_connect_has_no_path(launch_paths):
    """Gunicorn's PATH_INFO is the port: its splitter takes the host for a scheme."""
    found = environ(launch_paths, "other.test:443", method="CONNECT")
    assert (found["RAW_URI"], found["PATH_INFO"], found["QUERY_STRING"]) == ("other.test:443", "", "")


def test_asterisk(launch_paths):
    found = environ(launch_paths, "*", method="OPTIONS")
    assert (found["RAW_URI"], found["PATH_INFO"]) == ("*", "*")


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1", "HTTP/1.2"])
def test_protocol(server, version):
    assert environ(server, version=version)["SERVER_PROTOCOL"] == version


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PROPFIND", "M-SEARCH"])
def test_method(server, method):
    assert environ(server, method=method)["REQUEST_METHOD"] == method


def test_fields(server):
    found = environ(
        server,
        headers=[
            ("x-lower", "v"),
            ("X-Two", "1"),
            ("x-two", "2"),
            ("X-Empty", ""),
            ("X-High", "caf\xe9"),
            ("Content-Type", "a/b"),
        ],
    )
    assert found["HTTP_X_LOWER"] == "v"
    assert found["HTTP_X_TWO"] == "1,2"
    assert found["HTTP_X_EMPTY"] == ""
    assert found["HTTP_X_HIGH"] == "caf\xe9"
    assert found["CONTENT_TYPE"] == "a/b"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "CONTENT_LENGTH"} & set(found)


@pytest.mark.parametrize("value", ["", "1", "\xe9", "12"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_repetition_is_seen_whatever_the_value(server, value, count):
    """Python has one object for equal texts of one character: identity tells nothing about repetition."""
    found = environ(server, headers=[("X-Retry", value)] * count)
    assert found["HTTP_X_RETRY"] == ",".join([value] * count)


def test_absent_fields_are_absent(server):
    found = environ(server, host=None, version="HTTP/1.0")
    assert not {"HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"} & set(found)


def test_chunked_body_has_no_length(server):
    found = environ(server, chunks=[b"hello"])
    assert "CONTENT_LENGTH" not in found
    assert found["HTTP_TRANSFER_ENCODING"] == "chunked"


def test_names_with_underscores_are_dropped(server):
    """`X_Real_Ip` would be indistinguishable from `X-Real-Ip`."""
    assert "HTTP_X_REAL_IP" not in environ(server, headers={"X_Real_Ip": "6.6.6.6"})
    assert environ(server, headers=[("X_Y", "bad"), ("X-Y", "good")])["HTTP_X_Y"] == "good"


@pytest.mark.own
def test_repeated_cookie_is_one_cookie_string(server):
    """RFC 6265 section 5.4 and RFC 9113 section 8.2.3; Gunicorn joins with a comma, which is no separator there."""
    assert environ(server, headers=[("Cookie", "a=1"), ("Cookie", "b=2")])["HTTP_COOKIE"] == "a=1; b=2"


def test_dictionary_is_new_for_each_request(launch_paths):
    with launch_paths.client() as client:
        assert "left.behind" not in decoded(client.get("/?mark"))
        assert "left.behind" not in decoded(client.get("/?mark"))
        assert "HTTP_X_GONE" in decoded(client.get("/", headers={"X-Gone": "1"}))
        assert "HTTP_X_GONE" not in decoded(client.get("/"))


# Listeners.


def test_ipv6(everywhere):
    with Client(everywhere.addresses[1]) as client:
        found = decoded(client.get("/environ"))
        port = client.sock.getsockname()[1]
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("::1", str(port))
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("::1", str(everywhere.addresses[1][1]))
    assert found["wsgi.multiprocess"] == ["bool", "True"]


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("a.test", "a.test", "80"), ("a.test:81", "a.test", "81")],
)
def test_unix_socket(everywhere, host, name, port):
    with Client(everywhere.addresses[2]) as client:
        found = decoded(client.get("/environ", host=host))
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (name, port)
    assert found["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in found


def test_unix_socket_without_host(everywhere):
    with Client(everywhere.addresses[2]) as client:
        found = decoded(client.get("/environ", host=None, version="HTTP/1.0"))
    assert (found["SERVER_NAME"].endswith("server.sock"), found["SERVER_PORT"]) == (True, "")


# A proxy in front; the default trusts 127.0.0.1, ::1 and every unix peer.


@pytest.mark.parametrize(
    ("name", "value", "scheme"),
    [
        ("X-Forwarded-Proto", "https", "https"),
        ("X-Forwarded-Proto", "http", "http"),
        ("X-Forwarded-Proto", "HTTPS", "http"),
        ("X-Forwarded-Protocol", "ssl", "https"),
        ("X-Forwarded-Ssl", "on", "https"),
        ("X-Forwarded-Scheme", "https", "http"),
    ],
)
def test_scheme_from_a_trusted_proxy(server, name, value, scheme):
    assert environ(server, headers={name: value})["wsgi.url_scheme"] == scheme


def test_scheme_from_a_unix_peer(everywhere):
    with Client(everywhere.addresses[2]) as client:
        found = decoded(client.get("/environ", headers={"X-Forwarded-Proto": "https"}, host="a.test"))
    assert (found["wsgi.url_scheme"], found["SERVER_PORT"]) == ("https", "443")


def test_contradictory_schemes(server):
    data = request("/environ", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"})
    assert server.exchange(data).status == 400


def test_remote_address_is_never_taken_from_a_field(server):
    assert environ(server, headers={"X-Forwarded-For": "6.6.6.6"})["REMOTE_ADDR"] == "127.0.0.1"


# SCRIPT_NAME, of the environment or of a trusted proxy: the path is divided at a slash or not at all.


@pytest.fixture(scope="module")
def mounted(launch_module):
    """A server under a prefix, whose application answers every path with its environ."""
    return launch_module("http_app:show_every_environ", env={"SCRIPT_NAME": "/app"})


DIVIDED = [
    ("/app", "/app", ""),
    ("/app/", "/app", "/"),
    ("/app/env%20x", "/app", "/env x"),
    ("/app//x", "/app", "//x"),
    ("http://a.test/app/x", "/app", "/x"),
]


@pytest.mark.parametrize(("target", "script", "path"), DIVIDED)
def test_script_name_divides_the_path(mounted, launch_paths, target, script, path):
    for found in (environ(mounted, target), environ(launch_paths, target, headers={"SCRIPT_NAME": "/app"})):
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script, path)


@pytest.mark.parametrize("target", ["/", "/ap", "/other", "/App/x"])
def test_a_path_elsewhere_is_a_fault_of_the_set_up(mounted, launch_paths, target):
    assert mounted.get(target).status == 500
    assert launch_paths.get(target, headers={"SCRIPT_NAME": "/app"}).status == 500


@pytest.mark.own
@pytest.mark.parametrize("target", ["/application/env", "/app%2Fx", "/app;x"])
def test_a_path_that_only_begins_alike_lies_elsewhere(mounted, launch_paths, target):
    """PATH_INFO is empty or begins with a slash (RFC 3875 section 4.1.5). Under Gunicorn it is `lication/env`."""
    assert mounted.get(target).status == 500
    assert launch_paths.get(target, headers={"SCRIPT_NAME": "/app"}).status == 500


@pytest.mark.own
def test_a_slash_at_the_end_of_script_name_belongs_to_path_info(launch, launch_paths):
    """Gunicorn leaves it there, and PATH_INFO without one."""
    slashed = launch("http_app:show_every_environ", env={"SCRIPT_NAME": "/app/"})
    by_header = environ(launch_paths, "/app/x", headers={"SCRIPT_NAME": "/app/"})
    for found in (by_header, environ(slashed, "/app/x")):
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/app", "/x")
    found = environ(slashed, "/x/y", headers={"SCRIPT_NAME": "/"})
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/x/y")
