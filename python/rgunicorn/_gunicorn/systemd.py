"""`gunicorn.systemd`."""

from rgunicorn.systemd import SD_LISTEN_FDS_START, listen_fds, sd_notify
