"""Values that are only known when the server starts."""

from hooklog import record


def on_starting(server):
    server.cfg.set("max_requests", 2)
    server.cfg.set("keepalive", "0")
    server.cfg.set("proc_name", "named-late")
    record("on_starting", nothing=server.cfg.settings["max_requests"].get(), text=server.cfg.keepalive)


def post_fork(server, worker):
    record("post_fork", limit=worker.max_requests, same=worker.cfg is server.cfg, name=worker.cfg.proc_name)
