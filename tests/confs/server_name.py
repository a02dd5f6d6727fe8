"""Another name in the Server header, and in what applications are told."""

import gunicorn

gunicorn.SERVER = "Shop/2.0"
gunicorn.SERVER_SOFTWARE = "Shop/2.0.1"
