"""Every value from the environment, with casts."""

import os


def flag(name, default="false"):
    """A switch."""
    return os.getenv(name, default).strip().lower() in ("1", "true", "yes", "on")


host = os.getenv("APP_HOST", "127.0.0.1")
port = os.getenv("APP_PORT", "0")
bind = f"{host}:{port}"
workers = int(os.getenv("GUNICORN_WORKERS", "1"))
worker_class = os.environ.get("GUNICORN_WORKER_CLASS", "sync")
timeout = int(os.getenv("GUNICORN_TIMEOUT", 120))
graceful_timeout = int(os.getenv("GUNICORN_GRACEFUL_TIMEOUT", "5"))
keepalive = int(os.getenv("GUNICORN_KEEPALIVE", "5"))
loglevel = os.getenv("LOG_LEVEL", "info")
accesslog = os.getenv("ACCESS_LOG", "-") or None
errorlog = os.getenv("ERROR_LOG", "-")
preload_app = flag("GUNICORN_PRELOAD")
max_requests = os.getenv("GUNICORN_MAX_REQUESTS", "0x10")
print(f"config host={host} workers={workers} preload={preload_app}", flush=True)
