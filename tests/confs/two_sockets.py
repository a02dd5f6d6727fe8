"""Two unix sockets, for two front ends."""

import os

bind = ["unix:one.sock", f"unix:{os.path.abspath('two.sock')}"]
umask = 0o007
backlog = 64
