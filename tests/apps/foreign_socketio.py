"""A Flask-SocketIO application for gevent-websocket's worker class."""

import os

from flask import Flask
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent")


@app.route("/pid")
def pid():
    """Say which process answers."""
    return str(os.getpid())


@socketio.on("call")
def call(data):
    """Give the data back."""
    return {"pid": os.getpid(), "data": data}
