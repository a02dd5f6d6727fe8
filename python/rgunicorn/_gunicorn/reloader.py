"""`gunicorn.reloader`."""

from rgunicorn.reloader import InotifyReloader, Reloader, ReloaderBase, preferred_reloader, reloader_engines
