"""`gunicorn.workers.ggevent`."""

from rgunicorn.compat import FOLLOWED as _FOLLOWED
from rgunicorn.pywsgi import GeventPyWSGIWorker, GeventResponse, PyWSGIHandler, PyWSGIServer
from rgunicorn.workers import AsyncWorker, GeventWorker


def __getattr__(name: str) -> str:
    """Return `VERSION`, for which gevent has to be there."""
    if name == "VERSION":
        import gevent  # type: ignore[import-untyped]  # noqa: PLC0415

        return f"gevent/{gevent.__version__} gunicorn/{_FOLLOWED}"
    raise AttributeError(name)
