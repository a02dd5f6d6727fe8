"""What the names that programs import from Gunicorn do, as values that JSON can hold: one function for each subject.

A configuration file or a hook calls them, so that `gunicorn` is what the server's processes have under that name.
"""

import contextlib
import io
import json
import os
import socket
import sys
import threading
import types
import warnings


def raised(function, *args, **kwargs):
    """The name of the exception's class, or the value."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__


def sent(function, *args, **kwargs):
    """The bytes that a function sends to a socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            function(ours, *args, **kwargs)
        return theirs.recv(65536).decode()


def versions():
    import gunicorn

    text = ".".join(map(str, gunicorn.version_info))
    return [gunicorn.version_info[0], text == gunicorn.__version__, gunicorn.SERVER_SOFTWARE == f"gunicorn/{text}"]


def error_classes():
    from gunicorn.http import errors

    found = {}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            found[name] = [base.__name__ for base in value.__mro__ if base.__module__ != "builtins" or base is OSError]
    return found


def error_objects():
    from gunicorn.http import errors

    first = [
        errors.NoMoreData, errors.ConfigurationProblem, errors.InvalidRequestLine, errors.InvalidRequestMethod,
        errors.ExpectationFailed, errors.InvalidHTTPVersion, errors.InvalidHeader, errors.InvalidHeaderName,
        errors.ObsoleteFolding, errors.InvalidResponseHeader, errors.InvalidResponseHeaderName,
        errors.UnsupportedTransferCoding, errors.InvalidChunkSize, errors.ChunkMissingTerminator,
        errors.InvalidChunkExtension, errors.LimitRequestLine, errors.LimitRequestHeaders, errors.InvalidProxyLine,
        errors.InvalidProxyHeader, errors.ForbiddenProxyRequest, errors.InvalidH2CPreface,
    ]  # fmt: skip
    made = [kind("x") for kind in first]
    made += [errors.NoMoreData(), errors.InvalidSchemeHeaders(), errors.InvalidHeader("x", req=1)]
    made += [errors.LimitRequestLine(9, max_size=8), errors.ParseException("x")]
    shown = [
        [type(error).__name__, getattr(error, "code", None), list(error.args), sorted(vars(error).items()), bool(str(error))]
        for error in made
    ]
    for row in shown:
        row[3] = [[name, value] for name, value in row[3] if name != "code"]
    return [*shown, str(errors.LimitRequestLine(9)), str(errors.LimitRequestHeaders("long"))]


def util_values():
    from gunicorn import util

    return {
        "split": [list(util.split_request_uri(uri)) for uri in ("/a?b#c", "//a//b?c", "http://h:1/p?q", "///", "*")],
        "hop": [util.is_hoppish(name) for name in ("Connection", " DATE ", "X-One", "te")],
        "hops": sorted(util.hop_headers),
        "ipv6": [util.is_ipv6(text) for text in ("::1", "1.2.3.4", "a")],
        "address": [
            util.parse_address("[::1]:80"), util.parse_address("unix:/a"), util.parse_address("A:1"),
            util.parse_address("fd://3"), raised(util.parse_address, "a:b"),
        ],
        "bytes": [util.to_bytestring("é").decode(), util.to_bytestring(b"a").decode(), raised(util.to_bytestring, 1)],
        "str": [util.bytes_to_str(b"\xe9"), util.bytes_to_str("a")],
        "date": util.http_date(0),
        "unquoted": util.unquote_to_wsgi_str("/%C3%A9%20"),
        "fileno": [util.has_fileno(io.BytesIO()), util.has_fileno(sys.stderr), util.has_fileno(3)],
        "arity": [util.get_arity(lambda a, b: 0), util.get_arity(lambda *a, b=1: 0), util.get_arity(print)],
        "pattern": [util.is_glob_pattern(text) for text in ("a*", "a", "b[", "c?")],
        "user": util.get_username(0),
        "unlinked": [util.unlink("not-there"), util.unlink("test.conf.py/x"), raised(util.unlink, "/proc")],
        "writable": [util.check_is_writable("made.txt"), os.path.exists("made.txt"), raised(util.check_is_writable, "/")],
        "cwd": os.path.samefile(util.getcwd(), "."),
        "redirect": util.REDIRECT_TO,
        "title": util._setproctitle("test"),
        "seeded": util.seed(),
    }  # fmt: skip


def util_classes():
    from gunicorn import util
    from gunicorn.workers.gthread import ThreadWorker

    return [
        util.load_class("gthread") is ThreadWorker,
        util.load_class("gunicorn.workers.gthread.ThreadWorker") is ThreadWorker,
        util.load_class(dict) is dict,
        util.load_class("json.JSONDecoder") is json.JSONDecoder,
        *(raised(util.load_class, uri) for uri in ("nothing", "no.such.Class", "json.Nothing", "egg:nothing#a")),
        raised(util.load_entry_point, "pytest", "console_scripts", "nothing"),
        util.load_entry_point("pytest", "console_scripts", "pytest").__name__,
    ]


def util_import_app():
    from gunicorn import util
    from gunicorn.errors import AppImportError

    module = types.ModuleType("probed")
    module.app = module.application = print
    module.nothing, module.number, module.make = None, 1, lambda name="a": print
    sys.modules["probed"] = module
    found = [util.import_app(uri) is print for uri in ("probed", "probed:app", "probed:make()", "probed:make('b')")]
    wrong = ["probed:no", "probed:1+", "probed:a.b()", "probed:make(x)", "probed:nothing", "probed:number", "probed:a.b"]
    wrong += ["probed:make(1, 2)", "no_such_module:app"]
    return [*found, *(raised(util.import_app, uri) for uri in wrong), AppImportError.__bases__ == (Exception,)]


def util_sockets():
    from gunicorn import util

    ours, theirs = socket.socketpair()
    theirs.sendall(b"unread")
    util.set_non_blocking(ours.fileno())
    blocks = os.get_blocking(ours.fileno())
    theirs.shutdown(socket.SHUT_WR)
    util.close_graceful(ours)
    end = theirs.recv(1)
    util.close(theirs)
    util.close(theirs)
    page = sent(util.write_error, 418, "Teapot", "<short & stout>")
    head, _, body = page.partition("\r\n\r\n")
    return {
        "write": sent(util.write, b"abc"),
        "chunk": sent(util.write, b"a" * 26, chunked=True),
        "last": sent(util.write_chunk, ""),
        "nonblock": sent(util.write_nonblock, b"abc"),
        "graceful": [blocks, end.decode(), ours.fileno(), theirs.fileno()],
        "error": head.replace(f": {len(body)}", ": N").split("\r\n"),
        "escaped": "&lt;short &amp; stout&gt;" in body,
    }


def util_warn():
    from gunicorn import util

    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        util.warn("one\ntwo")
    return text.getvalue()


def util_fail_app():
    from gunicorn import util

    answers = []
    body = util.make_fail_app("no")({}, lambda *answer: answers.append(answer))
    return [answers, b"".join(body).decode()]


def util_reraise():
    from gunicorn import util

    error = ValueError("a")
    return [raised(util.reraise, ValueError, error), raised(util.reraise, KeyError, None)]


def pid_files():
    from gunicorn.pidfile import Pidfile

    file = Pidfile("one.pid")
    file.create(os.getpid())
    with open("one.pid") as text:
        seen = [text.read() == f"{os.getpid()}\n", oct(os.stat("one.pid").st_mode), file.validate() == os.getpid()]
    file.rename("two.pid")
    seen += [os.path.exists("one.pid"), os.path.exists("two.pid"), file.fname]
    with open("other.pid", "w") as text:
        text.write("1\n")
    other = Pidfile("other.pid")
    seen += [other.validate(), raised(other.create, os.getpid()), other.unlink(), os.path.exists("other.pid")]
    with open("bad.pid", "w") as text:
        text.write("word\n")
    seen += [Pidfile("bad.pid").validate(), Pidfile("none.pid").validate(), Pidfile("").validate()]
    seen.append(raised(Pidfile("no/where.pid").create, 1))
    file.unlink()
    named = Pidfile("")
    named.create(1)
    seen += [os.path.exists("two.pid"), os.path.isfile(named.fname)]
    named.unlink()
    return seen


def systemd_protocols():
    from gunicorn import systemd

    lines = []
    logger = types.SimpleNamespace(debug=lambda *args, **kwargs: lines.append(kwargs))
    seen = [systemd.SD_LISTEN_FDS_START, systemd.listen_fds(), systemd.sd_notify("READY=1", logger)]
    os.environ.update(LISTEN_PID="1", LISTEN_FDS="2")
    seen += [systemd.listen_fds(), "LISTEN_FDS" in os.environ]
    os.environ["LISTEN_PID"] = str(os.getpid())
    seen += [systemd.listen_fds(unset_environment=False), systemd.listen_fds(), "LISTEN_FDS" in os.environ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + os.path.abspath("notify"))
        os.environ["NOTIFY_SOCKET"] = "@" + os.path.abspath("notify")
        systemd.sd_notify("READY=1\n", logger)
        seen.append(manager.recv(100).decode())
    systemd.sd_notify("READY=1", logger, unset_environment=True)
    return [*seen, lines, "NOTIFY_SOCKET" in os.environ]


def reloaders():
    from gunicorn import reloader

    with open("watched.txt", "w") as file:
        file.write("1")
    changed, event = [], threading.Event()

    def note(name):
        changed.append(name)
        event.set()

    thread = reloader.Reloader(extra_files=["watched.txt", "*.none"], interval=0.01, callback=note)
    files = thread.get_files()
    thread.add_extra_file("later.txt")
    os.utime("watched.txt", (1, 1))
    thread.start()
    for second in range(2, 2000):
        os.utime("watched.txt", (second, second))
        if event.wait(0.01):
            break
    # It goes on for ever.
    thread._callback, thread._interval = None, 3600
    return [
        os.path.basename(changed[0]), thread.daemon, os.__file__ in files, __file__ in files,
        any(name.endswith("later.txt") for name in thread.get_files()), sorted(reloader.reloader_engines),
    ]  # fmt: skip


def settings():
    from gunicorn import config

    some = ("workers", "timeout", "config", "bind")
    names = [known.name for known in config.KNOWN_SETTINGS if known.name in some]
    made = config.make_settings(ignore=["bind"])
    workers = next(known for known in config.KNOWN_SETTINGS if known.name == "workers")()
    workers.set("3")
    default = config.get_default_config_file()
    with open("gunicorn.conf.py", "w") as file:
        file.write("")
    found = config.get_default_config_file()
    os.unlink("gunicorn.conf.py")
    return {
        "names": names,
        "classes": [config.Workers.name, config.CACerts.name, config.AccessLogFormat.default],
        "made": ["bind" in made, made["backlog"].get(), made["backlog"].section, made["backlog"].cli],
        "set": [workers.get(), workers.value, workers.copy().get(), raised(workers.set, -1)],
        "sorted": [made["workers"] < made["threads"], made["threads"] < made["workers"]],
        "file": [default, found == os.path.abspath("gunicorn.conf.py")],
        "missing": [raised(getattr, config, "Nothing")],
    }


def own_settings():
    from gunicorn import config

    class Colour(config.Setting):
        name = "shop_colour"
        section = "Shop"
        cli = ["--shop-colour"]
        meta = "STRING"
        validator = config.validate_string
        default = "red"
        desc = """\
            The colour.

            A longer text.
            """

    class Limit(config.Setting):
        name = "shop_limit"
        section = "Shop"
        cli = ["--shop-limit"]
        validator = config.validate_pos_int
        type = int
        default = 3
        desc = "The limit."

    cfg = config.Config()
    args = cfg.parser().parse_args(["--shop-colour", "blue", "--shop-limit", "5", "--workers", "2"])
    cfg.set("shop_colour", " green ")
    seen = [Colour.short, Colour in config.KNOWN_SETTINGS, cfg.shop_colour, cfg.settings["shop_limit"].get()]
    seen += [args.shop_colour, args.shop_limit, args.workers, raised(cfg.set, "shop_limit", -1)]
    return [*seen, raised(setattr, cfg, "shop_limit", 1), config.KNOWN_SETTINGS[-1] is Limit, "shop_limit" in str(cfg)]


def validators():
    from gunicorn import config

    callables = [config.validate_callable(2), config.validate_callable(-1)]
    cases = [
        (config.validate_bool, (None, True, " TRUE ", "false", "x", 1)),
        (config.validate_dict, ({}, [])),
        (config.validate_pos_int, (1, True, "0x10", -1, "a", None)),
        (config.validate_string, (None, " a ", 1)),
        (config.validate_file_exists, (None, "/", "/none")),
        (config.validate_list_string, (None, "", "a", ["a ", "b"], [1])),
        (config.validate_string_to_list, (None, "a, b,,c", 1)),
        (config.validate_class, ("a.b", 1, lambda: "c")),
        (callables[0], ("os.path.join", "nowhere.at.all", "os.nothing", "join", 1)),
    ]
    shown = [[raised(check, value) for value in values] for check, values in cases]
    shown[-1] = [str(value) for value in shown[-1]]
    return [
        *shown[:-1], shown[-1][1:], callables[1](print) is print, raised(callables[0], lambda a: a),
        config.validate_class(dict) is dict, config.auto_int(None, "0644"), config.auto_int(None, "0x10"),
    ]  # fmt: skip


def bodies():
    from gunicorn.http.body import Body

    data = b"one\ntwo\n" + b"x" * 3000 + b"\nlast"
    whole, lines, small = (Body(io.BytesIO(data)) for _ in range(3))
    seen = [whole.read() == data, whole.read().decode(), [len(line) for line in lines]]
    seen += [small.read(0).decode(), small.read(2).decode(), small.readline().decode(), small.readline(2).decode()]
    seen += [small.readline(0).decode(), [len(line) for line in small.readlines()], raised(small.read, "a")]
    return [*seen, Body(io.BytesIO(data)).read(-1) == data, len(Body(io.BytesIO(data)).read(2000))]


def environs():
    from gunicorn.config import Config
    from gunicorn.http import wsgi

    cfg = Config()
    base = wsgi.base_environ(cfg)
    base["wsgi.errors"].write("note of the environ\n")
    line = dict(query="q", uri="/?q", method="PUT", version=(1, 1), proxy_protocol_info=None)
    req = types.SimpleNamespace(body=1, **line)
    found = wsgi.default_environ(req, 2, cfg)
    proxied = types.SimpleNamespace(
        proxy_protocol_info=dict(proxy_protocol="TCP4", client_addr="1.1.1.1", client_port=1, proxy_addr="2.2.2.2", proxy_port=2)
    )
    plain = {name: value for name, value in found.items() if isinstance(value, str | int | tuple)}
    plain["SERVER_SOFTWARE"] = plain["SERVER_SOFTWARE"].partition("/")[0]
    return [sorted(base), plain, wsgi.proxy_environ(req), wsgi.proxy_environ(proxied), wsgi.log.name]


def tls():
    from gunicorn import sock

    def make(conf, default):
        return ["made", conf.certfile, raised(default)]

    conf = types.SimpleNamespace(ssl_context=make, certfile="none.pem", keyfile=None, ca_certs=None)
    return sock.ssl_context(conf)


PROBES = [
    versions, error_classes, error_objects, util_values, util_classes, util_import_app, util_sockets, util_warn,
    util_fail_app, util_reraise, pid_files, systemd_protocols, reloaders, settings, own_settings, validators, bodies,
    environs, tls,
]  # fmt: skip


def write(path):
    """Call all of them, and write what they give; what one raises is its value."""
    found = {}
    for probe in PROBES:
        try:
            with warnings.catch_warnings():
                found[probe.__name__] = probe()
        except Exception as error:
            found[probe.__name__] = f"{type(error).__name__}: {error}"
    with open(path, "w") as file:
        json.dump(found, file)
