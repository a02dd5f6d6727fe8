"""Another name in the Server header."""

import gunicorn

gunicorn.SERVER = "Shop/2.0"
gunicorn.SERVER_SOFTWARE = "ignored"
