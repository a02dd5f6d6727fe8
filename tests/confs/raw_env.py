"""Variables for the application; the file's own process does not see them yet."""

import os

raw_env = ["DJANGO_SETTINGS_MODULE=shop.settings", "WITH_EQUALS=a=b", "EMPTY="]
seen_by_file = os.environ.get("DJANGO_SETTINGS_MODULE")


def on_starting(server):
    server.log.info("file saw %s, on_starting sees %s", seen_by_file, os.environ.get("DJANGO_SETTINGS_MODULE"))
    server.log.info("server.cfg.env %s", sorted(server.cfg.env.items()))
