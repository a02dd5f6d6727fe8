"""The application of `blocked`, patched for gevent."""

from gevent import monkey

monkey.patch_all()

from blocked import app  # noqa: E402

__all__ = ["app"]
