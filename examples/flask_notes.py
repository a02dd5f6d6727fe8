"""A small Flask application: `pip install flask`, then `rgunicorn -k uring --chdir examples flask_notes:app`.

Notes live in the session cookie, so any number of workers can serve them.
"""

import os

from flask import Flask, redirect, render_template_string, request, session

NOTES_MAX = 20
PAGE = """<!doctype html>
<title>Notes</title>
<h1>Notes</h1>
<form method="post"><input name="note" autofocus maxlength="80"> <button>Add</button></form>
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<p>Answered by worker {{ pid }}.</p>
"""

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "change me")


@app.get("/")
def show():
    """The notes and a form for the next one."""
    return render_template_string(PAGE, notes=session.get("notes", []), pid=os.getpid())


@app.post("/")
def add():
    """Keep the newest notes: a cookie has room for few."""
    session["notes"] = [*session.get("notes", []), request.form["note"][:80]][-NOTES_MAX:]
    return redirect("/")
