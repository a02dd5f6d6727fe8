"""Applications that PasteDeploy makes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rgunicorn.app.base import BaseApplication

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def get_wsgi_app(config_uri: str, name: str | None = None, defaults: dict[str, str] | None = None) -> WSGIApplication:
    """Load the application of a PasteDeploy file, ``FILE`` or ``FILE#SECTION``.

    Raises `ImportError` without the package PasteDeploy.
    """
    # The package may be missing where no application needs it.
    from paste.deploy import loadapp  # type: ignore[import-untyped]  # noqa: PLC0415

    uri = config_uri if config_uri.startswith("config:") else f"config:{config_uri}"
    app: WSGIApplication = loadapp(uri, name=name, relative_to=os.getcwd(), global_conf=defaults)
    return app


def has_logging_config(config_file: str) -> bool:
    """Return whether an ini file configures logging, by a section ``[loggers]``."""
    # Only such files need the module.
    import configparser  # noqa: PLC0415

    parser = configparser.RawConfigParser(strict=False)
    parser.read(config_file)
    return parser.has_section("loggers")


class PasteApplication(BaseApplication):
    """An application that PasteDeploy has made, with the settings of its server section."""

    def __init__(self, app: WSGIApplication, global_conf: dict[str, str], local_conf: dict[str, str]) -> None:
        self.made, self.global_conf, self.local_conf = app, global_conf, local_conf
        super().__init__()

    def load_config(self) -> None:
        """Take the settings of the section; `host` and `port` are the address. The file may configure logging, too."""
        config_file = self.global_conf.get("__file__", "rgunicorn")
        self.cfg.set("default_proc_name", config_file)
        if has_logging_config(config_file):
            self.cfg.set("logconfig", config_file)
        local = dict(self.local_conf)
        host, port = local.pop("host", ""), local.pop("port", "")
        if host or port:
            self.cfg.set("bind", f"{host or '127.0.0.1'}:{port or '8000'}")
        for key, value in local.items():
            self.cfg.set(key, value)

    def load(self) -> WSGIApplication:
        """Return the application that was made."""
        return self.made


def serve(app: WSGIApplication, global_conf: dict[str, str], **local_conf: str) -> None:
    """Serve, as a PasteDeploy server runner: ``use = egg:rgunicorn#main``."""
    PasteApplication(app, global_conf, local_conf).run()
