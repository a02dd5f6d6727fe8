"""A Flask-SocketIO application for gevent-websocket's worker class."""

import os

import foreign_wsgi
from flask import Flask
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent")


@app.route("/<path:path>", methods=["GET", "POST"])
def others(path):
    """Answer by the path, as the plain application does."""
    return foreign_wsgi.app


@socketio.on("call")
def call(data):
    """Give the data back."""
    return {"pid": os.getpid(), "data": data}
