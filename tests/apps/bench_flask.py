"""The hello of the benches in Flask."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    """Answer every request with the same 13 bytes."""
    return "Hello, world!"
