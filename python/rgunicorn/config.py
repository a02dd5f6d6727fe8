"""The configuration as hooks, loggers and embedding programs see it: ``cfg.workers``, ``cfg.set("workers", 2)``.

The settings themselves, their defaults and their checks are the native module's table; this is a view of it.
"""

from __future__ import annotations

import copy
import grp
import inspect
import os
import pwd
import ssl
from typing import TYPE_CHECKING, Any

from rgunicorn import _rgunicorn
from rgunicorn.util import Address, getcwd, import_object, parse_address
from rgunicorn.workers import Worker, worker_class

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

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
    """One setting: its row of the table, and its value."""

    def __init__(self, row: Row) -> None:
        self.name, self.shape, self.section, self.cli, self.meta, self.desc, self.default, self.since = row
        self.short = self.desc.partition(". ")[0]
        self.order = -1
        self.value: Any = self._own(self.default)

    def _own(self, value: Any) -> Any:
        return no_hook(self.name, value) if self.shape == "Hook" else copy.copy(value)

    def get(self) -> Any:
        """Return the value."""
        return self.value

    def set(self, value: Any) -> None:
        """Check and take a value.

        Raises `TypeError` or `ValueError`, which say what is allowed.
        """
        if self.shape == "Hook":
            self.value = self._hook(value)
        elif self.shape == "Object":
            self.value = self._object(value)
        else:
            self.take(_rgunicorn._check_setting(self.name, value))

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}={self.value!r}>"


class Config:
    """All settings by name. Attributes can be read; `set` changes them, with the same checks as everywhere."""

    settings: dict[str, Setting]

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.__dict__.update(
            settings={row[0]: Setting(row) for row in _rgunicorn._settings_table()},
            usage=usage,
            prog=prog or "rgunicorn",
            env_orig=os.environ.copy(),
            # Names that were set here, and not by a source that the server reads by itself.
            _changed=set(),
        )
        self._settle()

    def _settle(self) -> None:
        """Take from the machine what was not configured, as Gunicorn does."""
        self.settings["chdir"].value = getcwd()
        self.settings["user"].value = os.geteuid()
        self.settings["group"].value = os.getegid()

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"No configuration setting for: {name}")
        return settings[name].get()

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "settings" and name in self.settings:
            raise AttributeError(f"use cfg.set({name!r}, ...) to change a setting")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        width = max(map(len, self.settings))
        return "\n".join(f"{name:<{width}} = {shown(value)}" for name, value in self._pairs())

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        return ((name, self.settings[name].value) for name in sorted(self.settings))

    def set(self, name: str, value: Any) -> None:
        """Change a setting."""
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name].set(value)
        self.__dict__["_changed"].add(name)

    def _dump(self) -> str:
        """Return all settings, for the log."""
        return "\n".join(f"  {name}: {value}" for name, value in self._pairs())

    def _take(self, name: str, value: Any) -> None:
        """Take a value that was checked already."""
        self.settings[name].take(value)

    def _give(self, name: str, value: Any) -> None:
        """Check and take a value of a configuration file."""
        self.settings[name].set(value)

    def _changed_values(self) -> list[tuple[str, Any]]:
        """Return what `set` has changed, in the order of the table."""
        changed = self.__dict__["_changed"]
        return [(name, setting.value) for name, setting in self.settings.items() if name in changed]

    def _own_hook(self, name: str) -> Callable[..., Any] | None:
        hook: Callable[..., Any] = self.settings[name].value
        return None if getattr(hook, "_is_default", False) else hook

    def get_cmd_args_from_env(self) -> list[str]:
        """Return the words of ``GUNICORN_CMD_ARGS``, as they were when this object was made."""
        # Only embedding programs ask, and a worker need not have the module.
        import shlex  # noqa: PLC0415

        return shlex.split(self.env_orig.get("GUNICORN_CMD_ARGS", ""))

    def parser(self) -> argparse.ArgumentParser:
        """Make a parser of the same options, for programs that want to look at the command line themselves."""
        # Only embedding programs ask, and a worker need not have the module.
        import argparse  # noqa: PLC0415

        parser = argparse.ArgumentParser(prog=self.prog, usage=self.usage)
        version = f"{self.prog} (version {_rgunicorn.__version__})"
        parser.add_argument("-v", "--version", action="version", version=version)
        parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
        for setting in self.settings.values():
            if not setting.cli:
                continue
            options: dict[str, Any] = {"dest": setting.name, "default": None, "help": setting.short.replace("%", "%%")}
            if setting.shape == "Flag":
                options["action"] = "store_true"
            elif setting.shape == "Sendfile":
                options.update(action="store_const", const=False)
            else:
                options["metavar"] = setting.meta or None
                if setting.shape in ("Count", "Seconds"):
                    options["type"] = int
                elif setting.shape == "Mode":
                    options["type"] = mode
                elif setting.shape == "List":
                    options["action"] = "append"
                elif setting.shape == "Proxy":
                    options.update(nargs="?", const="auto")
            parser.add_argument(*setting.cli, **options)
        return parser

    @property
    def worker_class_str(self) -> str:
        """The name of the worker class; with threads, `sync` is `gthread`."""
        name: Any = self.settings["worker_class"].get()
        if isinstance(name, type):
            return name.__name__
        return "gthread" if name.endswith("sync") and self.threads > 1 else name

    @property
    def worker_class(self) -> type[Worker]:
        """A stand-in for Gunicorn's worker class, of the same name."""
        return worker_class(self.worker_class_str)

    @property
    def address(self) -> list[Address]:
        """The addresses to listen on: (host, port), or the path of a unix socket."""
        return [parse_address(text) for text in self.settings["bind"].get()]

    @property
    def uid(self) -> int:
        """The user id of workers."""
        return account(self.settings["user"].get(), pwd.getpwnam, os.geteuid)

    @property
    def gid(self) -> int:
        """The group id of workers."""
        return account(self.settings["group"].get(), grp.getgrnam, os.getegid)

    user = uid
    group = gid

    @property
    def proc_name(self) -> str:
        """The name in process titles."""
        name: str = self.settings["proc_name"].get() or self.settings["default_proc_name"].get()
        return name

    @property
    def logger_class(self) -> Any:
        """The logger to make: the class that `logger_class` names, or the one that sends metrics with `statsd_host`."""
        value = self.settings["logger_class"].get()
        if value in ("simple", self.settings["logger_class"].default):
            value = "rgunicorn.instrument.statsd.Statsd" if self.statsd_host else "rgunicorn.glogging.Logger"
        if isinstance(value, str):
            value = import_object(value)
        install = getattr(value, "install", None)
        if install is not None:
            install()
        return value

    @property
    def is_ssl(self) -> bool:
        """Whether TLS is asked for."""
        return bool(self.certfile or self.keyfile)

    @property
    def ssl_options(self) -> dict[str, Any]:
        """The TLS settings, by name."""
        return {name: setting.get() for name, setting in self.settings.items() if setting.section == "SSL"}

    @property
    def ssl_version(self) -> Any:
        """The version of TLS, as the module `ssl` names it."""
        value = self.settings["ssl_version"].get()
        return ssl.PROTOCOL_TLS if value == 2 else value

    @property
    def env(self) -> dict[str, str]:
        """`raw_env` as a dict."""
        found: dict[str, str] = {}
        for entry in self.settings["raw_env"].get():
            name, separator, value = entry.partition("=")
            if not separator:
                raise RuntimeError(f"environment setting {entry!r} invalid")
            found[name] = value
        return found

    @property
    def sendfile(self) -> bool:
        """Whether wrapped files leave by the system call of that name."""
        value = self.settings["sendfile"].get()
        return True if value is None else value

    @property
    def reuse_port(self) -> bool:
        """Whether every worker opens its own sockets."""
        return bool(self.settings["reuse_port"].get())

    @property
    def paste_global_conf(self) -> dict[str, str] | None:
        """`raw_paste_global_conf` as a dict, None without entries."""
        found: dict[str, str] = {}
        for entry in self.settings["raw_paste_global_conf"].get():
            # An equals sign of a name is written with a backslash.
            name, _, value = entry.replace("\\=", "\0").partition("=")
            found[name.replace("\0", "=").strip()] = value.replace("\0", "=").strip()
        return found or None


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


def shown(value: Any) -> str:
    """Return a value as ``--print-config`` shows it."""
    return f"<{value.__qualname__}()>" if callable(value) and hasattr(value, "__qualname__") else str(value)
