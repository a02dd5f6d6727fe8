"""What the recipes of docs/deploy.md are tried with: `/environ`, a health check, an answer in pieces, an upgrade."""

import http_app
import takeover
import wsgi_gate
from routes import Routes

app = Routes()
app.route("/environ")(http_app.show_every_environ)
app.route("/events/lazy")(wsgi_gate.lazy)
app.route("/echo")(takeover.echo)


@app.text("/health")
def health(environ):
    """Leaves a trace of who has asked."""
    with open("health.log", "a") as log:
        log.write(f"{environ.get('PROXY_PROTOCOL')} {environ['REMOTE_ADDR']}\n")
    return "well"


@app.text("/upload")
def upload(environ):
    """How much has come."""
    return str(len(environ["wsgi.input"].read()))
