"""Applications that PasteDeploy makes."""

from __future__ import annotations

import os
from typing import Any


def get_wsgi_app(config_uri: str, name: str | None = None, defaults: dict[str, str] | None = None) -> Any:
    """The application of a PasteDeploy file, ``FILE`` or ``FILE#SECTION``.

    Raises `ImportError` without the package PasteDeploy.
    """
    from paste.deploy import loadapp  # type: ignore[import-untyped]

    uri = config_uri if config_uri.startswith("config:") else f"config:{config_uri}"
    return loadapp(uri, name=name, relative_to=os.getcwd(), global_conf=defaults)


def serve(app: Any, global_conf: dict[str, str], **local_conf: str) -> None:
    """A PasteDeploy server runner: ``use = egg:rgunicorn#main``."""
    from rgunicorn.app.base import BaseApplication

    class Served(BaseApplication):
        def load_config(self) -> None:
            local = dict(local_conf)
            host, port = local.pop("host", ""), local.pop("port", "")
            if host or port:
                self.cfg.set("bind", f"{host or '127.0.0.1'}:{port or '8000'}")
            for key, value in local.items():
                self.cfg.set(key, value)
            self.cfg.set("default_proc_name", global_conf.get("__file__", "rgunicorn"))

        def load(self) -> Any:
            return app

    Served().run()
