"""Settings as objects: those of the native module's table, and those that a program adds by a class.

A program that embeds the server adds one as in Gunicorn, by a subclass of `Setting` with a `name`, a `validator` and
what else it has; configurations made from then on have it, and so do parsers of command lines that they make.
"""

from __future__ import annotations

import copy
import grp
import inspect
import os
import pwd
import textwrap
from typing import TYPE_CHECKING, Any, Self

from rgunicorn import _rgunicorn
from rgunicorn.errors import ConfigError
from rgunicorn.util import import_object, parse_address

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Container

#: What the system knows of a user or a group; in both the third field is the number.
Account = pwd.struct_passwd | grp.struct_group
#: What a row of the table says: name, shape, section, flags, metavar, text, default, since when.
Row = tuple[str, str, str, list[str], str, str, Any, str]


def positional(function: Callable[..., Any]) -> int | None:
    """Count the named positional parameters of a callable; None if they cannot be known."""
    if inspect.isclass(function):
        raise TypeError(f"{function!r} is not a function")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in parameters)


def no_hook(name: str, shown_as: str) -> Callable[..., Any]:
    """Return what stands for a hook that was not configured; `pre_request` writes a debug line, as under Gunicorn."""

    def nothing(*args: Any) -> Any:
        if name == "pre_request":
            args[0].log.debug("%s %s", args[1].method, args[1].path)
        elif name == "ssl_context":
            return args[1]()
        return None

    nothing.__name__ = name
    nothing.__qualname__ = shown_as.removeprefix("<").removesuffix("()>")
    nothing.__dict__["_is_default"] = True
    return nothing


def of_fewer(hook: Callable[..., Any], taken: int) -> Callable[..., Any]:
    """Return a hook that may be called with more arguments than the one that it calls."""

    def calls(worker: Any, req: Any, environ: Any, resp: Any) -> Any:
        return hook(*(worker, req, environ, resp)[:taken])

    calls.__name__ = getattr(hook, "__name__", type(hook).__name__)
    calls.__qualname__ = getattr(hook, "__qualname__", calls.__name__)
    return calls


class Setting:
    """One setting and its value. A subclass with a `validator` is one of a program's own; see Gunicorn's documentation.

    `cli`, `action`, `type`, `nargs` and `const` are those of `argparse`, `meta` is its `metavar`.
    """

    name: str
    section: str | None = None
    cli: list[str] | None = None
    validator: Callable[[Any], Any] | None = None
    type: Callable[[str], Any] | None = None
    meta: str | None = None
    action: str | None = None
    nargs: str | int | None = None
    const: Any = None
    default: Any = None
    desc: str = ""
    short: str = ""
    #: The place among all settings.
    order: int = -1
    value: Any = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check = vars(cls).get("validator")
        if check is not None and not isinstance(check, property):
            cls.validator = check if isinstance(check, staticmethod) else staticmethod(check)
            cls.desc = textwrap.dedent(cls.desc).strip()
            cls.short = cls.desc.partition("\n")[0]
            cls.order = len(_rgunicorn._settings_table()) + len(_own)
            _own.append(cls)
            if "KNOWN_SETTINGS" in globals():
                globals()["KNOWN_SETTINGS"].append(cls)

    def __init__(self) -> None:
        if self.default is not None:
            self.set(self.default)

    def get(self) -> Any:
        """Return the value."""
        return self.value

    def set(self, value: Any) -> None:
        """Check and take a value; raises what the `validator` raises, and `TypeError` without one."""
        if not callable(self.validator):
            raise TypeError(f"{self.name}: there is no validator")
        self.value = self.validator(value)

    def copy(self) -> Self:
        """Return a copy."""
        return copy.copy(self)

    def add_option(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the options of this setting, if it has any."""
        if not self.cli:
            return
        options: dict[str, Any] = {"action": self.action or "store", "metavar": self.meta, "nargs": self.nargs}
        if options["action"] == "store":
            options["type"] = self.type or str
        options["const"] = self.const
        given = {name: value for name, value in options.items() if value is not None}
        help_text = f"{self.short} [{self.default}]".replace("%", "%%")
        parser.add_argument(*self.cli, dest=self.name, default=None, help=help_text, **given)

    def __lt__(self, other: Setting) -> bool:
        return self.section == other.section and self.order < other.order

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} with value {self.value!r}>"


#: The classes of programs' own settings, the oldest first.
_own: list[type[Setting]] = []
#: What stands for hooks that were not configured, by their names.
_no_hooks: dict[str, Callable[..., Any]] = {}


class TableSetting(Setting):
    """A setting of the native module's table: its row, and its value."""

    def __init__(self, row: Row, order: int = -1) -> None:
        self.name, self.shape, self.section, self.cli, meta, self.desc, self.default, self.since = row
        self.meta = meta or None
        self.short = self.desc.partition(". ")[0]
        self.order = order
        self.value = self._own(self.default)

    def _own(self, value: Any) -> Any:
        if self.shape != "Hook":
            return copy.copy(value)
        # One function for all configurations, as the default of Gunicorn's class is.
        if self.name not in _no_hooks:
            _no_hooks[self.name] = no_hook(self.name, value)
        return _no_hooks[self.name]

    def set(self, value: Any) -> None:
        """Check and take a value.

        Raises `TypeError`, `ValueError` or, for `reload_engine`, `ConfigError`, which say what is allowed.
        """
        if self.shape == "Hook":
            self.value = self._hook(value)
        elif self.shape == "Class" and isinstance(value, type):
            self.value = value
        elif self.shape == "Object":
            self.value = self._object(value)
        else:
            self.take(self._checked(value))

    @property
    def validator(self) -> Callable[[Any], Any]:  # type: ignore[override]  # nobody sets that of a row
        """A function that checks a value and returns it in the form that `get` has it; raises as `set`."""

        def check(value: Any) -> Any:
            one = self.copy()
            if value == self.default:
                # Has the form already, or stands for what a configuration begins with.
                return self._own(value) if value is not None else one.value
            one.set(value)
            return one.value

        return check

    def _checked(self, value: Any) -> Any:
        try:
            return _rgunicorn._check_setting(self.name, value)
        except ValueError as error:
            if self.name == "reload_engine":
                raise ConfigError(str(error)) from None
            is_of_other_type = " is not a" in str(error) and not isinstance(value, str)
            if is_of_other_type or self.name == "statsd_host":
                raise TypeError(str(error)) from None
            raise

    def take(self, value: Any) -> None:
        """Take a value that was checked already, in the form that Gunicorn gives it."""
        if value is None and self.name in ("chdir", "user", "group"):
            return
        if self.name == "user":
            value = account(value, pwd.getpwnam, os.geteuid)
        elif self.name == "group":
            value = account(value, grp.getgrnam, os.getegid)
        elif self.name == "statsd_host" and value is not None:
            value = host_port(value)
        self.value = value

    def _hook(self, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = import_object(value)
            except (ImportError, AttributeError) as error:
                raise TypeError(f"{self.name}: {value!r} cannot be imported: {error}") from error
        if not callable(value):
            raise TypeError(f"{self.name}: {value!r} is not callable")
        allowed = _rgunicorn._hook_arities(self.name)
        taken = positional(value)
        if taken is not None and taken not in allowed:
            wanted = " or ".join(map(str, allowed))
            raise TypeError(f"{self.name}: {value!r} takes {taken} arguments, not {wanted}")
        # Programs call it as the server does, with all four.
        return value if taken is None or taken == max(allowed) else of_fewer(value, taken)

    def _object(self, value: Any) -> Any:
        if self.name == "logconfig_dict":
            if not isinstance(value, dict):
                raise TypeError(f"{self.name}: {value!r} is not a dict")
        elif self.name == "logger_class" and not (isinstance(value, str) or inspect.isclass(value)):
            if value is not None:
                raise TypeError(f"{self.name}: {value!r} is neither a dotted path nor a class")
            value = self.default
        return value

    def add_option(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the options of this setting, if it has any."""
        if not self.cli:
            return
        help_text = self.short.replace("%", "%%")
        parser.add_argument(*self.cli, dest=self.name, default=None, help=help_text, **self.parsing())

    def parsing(self) -> dict[str, Any]:
        """Return what `argparse` is told of the values."""
        if self.shape == "Flag":
            return {"action": "store_true"}
        if self.shape == "Sendfile":
            return {"action": "store_const", "const": False}
        options: dict[str, Any] = {"metavar": self.meta}
        if self.shape in ("Count", "Seconds"):
            options["type"] = int
        elif self.shape == "Mode":
            options["type"] = mode
        elif self.shape == "List":
            options["action"] = "append"
        elif self.shape == "Proxy":
            options.update(nargs="?", const="auto")
        return options


def make_settings(ignore: Container[str] | None = None) -> dict[str, Setting]:
    """Make an object of each setting, with its built-in value, by name; without those that are to be ignored."""
    made: list[Setting] = [TableSetting(row, order) for order, row in enumerate(_rgunicorn._settings_table())]
    made += [own() for own in _own]
    return {setting.name: setting for setting in made if setting.name not in (ignore or ())}


#: Names of Gunicorn's classes that are not those of their settings.
_CLASS_NAMES = {
    "config": "ConfigFile",
    "wsgi_app": "WSGIApp",
    "threads": "WorkerThreads",
    "check_config": "ConfigCheck",
    "raw_env": "Env",
    "secure_scheme_headers": "SecureSchemeHeader",
    "forwarded_allow_ips": "ForwardedAllowIPS",
    "accesslog": "AccessLog",
    "errorlog": "ErrorLog",
    "logconfig": "LogConfig",
    "logconfig_dict": "LogConfigDict",
    "logconfig_json": "LogConfigJson",
    "syslog_addr": "SyslogTo",
    "enable_backlog_metric": "BacklogMetric",
    "proc_name": "Procname",
    "pythonpath": "PythonPath",
    "pre_fork": "Prefork",
    "post_fork": "Postfork",
    "nworkers_changed": "NumWorkersChanged",
    "ssl_context": "NewSSLContext",
    "proxy_allow_ips": "ProxyAllowFrom",
    "uwsgi_allow_ips": "UWSGIAllowFrom",
    "keyfile": "KeyFile",
    "certfile": "CertFile",
    "ssl_version": "SSLVersion",
    "ca_certs": "CACerts",
    "suppress_ragged_eofs": "SuppressRaggedEOFs",
    "http_protocols": "HTTPProtocols",
    "http2_cleartext": "HTTP2Cleartext",
    "http2_max_concurrent_streams": "HTTP2MaxConcurrentStreams",
    "http2_initial_window_size": "HTTP2InitialWindowSize",
    "http2_max_frame_size": "HTTP2MaxFrameSize",
    "http2_max_header_list_size": "HTTP2MaxHeaderListSize",
    "raw_paste_global_conf": "PasteGlobalConf",
    "permit_unconventional_http_method": "PermitUnconventionalHTTPMethod",
    "permit_unconventional_http_version": "PermitUnconventionalHTTPVersion",
    "casefold_http_method": "CasefoldHTTPMethod",
    "asgi_loop": "ASGILoop",
    "asgi_lifespan": "ASGILifespan",
    "asgi_disconnect_grace_period": "ASGIDisconnectGracePeriod",
    "websocket_max_message_size": "WebSocketMaxMessageSize",
}


def _class_of(row: Row, order: int) -> type[Setting]:
    """Return a class that makes settings of one row, with the row's values as attributes."""

    def __init__(self: TableSetting) -> None:
        TableSetting.__init__(self, row, order)

    setting = TableSetting(row, order)
    names = ("name", "section", "cli", "meta", "desc", "short", "default", "order")
    known = {name: getattr(setting, name) for name in names} | (setting.parsing() if setting.cli else {})
    known.pop("metavar", None)
    title = _CLASS_NAMES.get(setting.name, "".join(word.capitalize() for word in setting.name.split("_")))
    return type(title, (TableSetting,), {**known, "__init__": __init__, "__doc__": setting.short})


def __getattr__(name: str) -> Any:
    """Make `KNOWN_SETTINGS` when it is first asked for: a server has no use for so many classes."""
    if name != "KNOWN_SETTINGS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    known = [_class_of(row, order) for order, row in enumerate(_rgunicorn._settings_table())] + _own
    globals()[name] = known
    return known


def account(value: str | int | None, find: Callable[[str], Account], own: Callable[[], int]) -> int:
    """Return the id of an account that is given as None, a number or a name."""
    if value is None:
        return own()
    try:
        return int(value)
    except ValueError:
        kind = "user" if find is pwd.getpwnam else "group"
        try:
            return int(find(str(value))[2])
        except KeyError:
            raise ValueError(f"No such {kind}: {value!r}") from None


def mode(text: str) -> int:
    """Return the number of a mode as the command line has it: a leading zero means octal."""
    octal = len(text) > 1 and text[0] == "0" and text[1].isdigit()
    return int(text, 8 if octal else 0)


def host_port(text: str) -> str | tuple[str, int]:
    """Return HOST:PORT as a pair, or the path of a unix socket alone."""
    # Digits make it a host of that name, as under Gunicorn.
    if text.startswith("unix:") and text.removeprefix("unix:").isdigit():
        return ("unix", int(text.removeprefix("unix:")))
    address = parse_address(text, "8125")
    assert not isinstance(address, int)
    return address
