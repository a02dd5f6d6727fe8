"""The application and its place are in the file; the command line names only the file."""

import os

wsgi_app = "shop_app:create('from the file', loud=True)"
chdir = os.path.abspath("project")
pythonpath = os.path.abspath("lib")
pidfile = os.path.abspath("server.pid")
proc_name = "shop"
bind = "127.0.0.1:0"
