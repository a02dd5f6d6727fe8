"""The configuration as hooks, loggers and embedding programs see it: ``cfg.workers``, ``cfg.set("workers", 2)``.

The settings themselves, their defaults and their checks are the native module's table; this is a view of it.
"""

from __future__ import annotations

import grp
import os
import pwd
import ssl
import sys
from typing import TYPE_CHECKING, Any

from rgunicorn import _rgunicorn
from rgunicorn.settings import Setting, TableSetting, account, make_settings, positional
from rgunicorn.util import Address, getcwd, import_object, parse_address
from rgunicorn.workers import Worker, own_name, worker_class

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

__all__ = ["Config", "get_default_config_file", "positional", "shown"]


class Config:
    """All settings by name. Attributes can be read; `set` changes them, with the same checks as everywhere."""

    settings: dict[str, Setting]

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.__dict__.update(
            settings=make_settings(),
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
        setting = self.settings[name]
        assert isinstance(setting, TableSetting), "the native module knows no others"
        setting.take(value)

    def _give(self, name: str, value: Any) -> None:
        """Check and take a value of a configuration file."""
        self.settings[name].set(value)

    def _changed_values(self) -> list[tuple[str, Any]]:
        """Return what `set` has changed of the server's own settings, in the order of the table."""
        changed = self.__dict__["_changed"]
        of_table = {name: setting for name, setting in self.settings.items() if isinstance(setting, TableSetting)}
        return [(name, setting.value) for name, setting in of_table.items() if name in changed]

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
            setting.add_option(parser)
        return parser

    @property
    def worker_class_str(self) -> str:
        """The name of the worker class; with threads, `sync` is `gthread`."""
        name: Any = self.settings["worker_class"].get()
        if isinstance(name, type):
            return name.__name__
        if _rgunicorn._is_foreign_worker(name):
            return str(name)
        return "gthread" if name.endswith("sync") and self.threads > 1 else name

    @property
    def worker_class(self) -> type[Worker]:
        """A stand-in for Gunicorn's worker class, of the same name; or the class of others that is configured.

        Raises `RuntimeError` where there is none.
        """
        value: Any = self.settings["worker_class"].get()
        own = own_name(value) if isinstance(value, type) else self._own_worker(value)
        if own is not None:
            if "rgunicorn._foreign" in sys.modules:
                sys.modules["rgunicorn._foreign"].take_back()
            return worker_class("gthread" if own == "sync" and self.threads > 1 else own)
        # Only few servers have one.
        from rgunicorn import _foreign  # noqa: PLC0415

        return _foreign.load(value)

    def _own_worker(self, name: str) -> str | None:
        """Return the worker type of ours that a name stands for; None if it stands for a class of others."""
        return None if _rgunicorn._is_foreign_worker(name) else self.worker_class_str.rpartition("#")[2]

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


def shown(value: Any) -> str:
    """Return a value as ``--print-config`` shows it."""
    return f"<{value.__qualname__}()>" if callable(value) and hasattr(value, "__qualname__") else str(value)


def get_default_config_file() -> str | None:
    """Return the path of the configuration file that is read when none is named; None if there is none."""
    path = os.path.abspath("gunicorn.conf.py")
    return path if os.path.exists(path) else None
