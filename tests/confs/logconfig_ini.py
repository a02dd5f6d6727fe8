"""An ini file beside this one."""

import os

logconfig = os.path.join(os.path.dirname(os.path.abspath(__file__)), "logging.ini")
