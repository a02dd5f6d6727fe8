"""A Flask application as people write them: template, session, upload, streaming, WebSocket echo."""

import hashlib

from flask import Flask, redirect, render_template_string, request, send_file, session, stream_with_context
from flask_sock import Sock

app = Flask(__name__)
app.secret_key = "for tests only"
sock = Sock(app)

PAGE = """<!doctype html><title>{{ title }}</title><ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul>"""


@app.get("/")
def index():
    return render_template_string(PAGE, title="a < b", items=["één", "two"])


@app.post("/login")
def login():
    session["user"] = request.form["user"]
    return redirect("/me")


@app.get("/me")
def me():
    return session.get("user", "nobody")


@app.post("/upload")
def upload():
    """The digest and name of an uploaded file, and the form field beside it."""
    file = request.files["file"]
    return {"name": file.filename, "sha256": hashlib.sha256(file.read()).hexdigest(), "note": request.form["note"]}


@app.get("/stream")
def stream():
    @stream_with_context
    def lines():
        for number in range(int(request.args["n"])):
            yield f"{number}\n"

    return lines()


@app.get("/source")
def source():
    """This file, with ranges and conditional requests."""
    return send_file(__file__, conditional=True)


@app.get("/fail")
def fail():
    raise LookupError("for the log")


@sock.route("/echo")
def echo(ws):
    """Sends every message back, in upper case."""
    while True:
        ws.send(ws.receive().upper())
