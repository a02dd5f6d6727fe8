"""A Flask application for monitoring agents, which are chosen by the environment."""

import os

from flask import Flask

AGENT = os.environ.get("AGENT", "")
INTAKE = os.environ.get("INTAKE", "")

if AGENT == "sentry":
    import sentry_sdk

    sentry_sdk.init(dsn=INTAKE.replace("://", "://key@") + "/1", traces_sample_rate=1.0)

app = Flask(__name__)

if AGENT == "elastic":
    from elasticapm.contrib.flask import ElasticAPM

    app.config["ELASTIC_APM"] = {
        "SERVICE_NAME": "shop", "SERVER_URL": INTAKE, "API_REQUEST_TIME": "300ms", "CENTRAL_CONFIG": False,
        "CLOUD_PROVIDER": "none", "DISABLE_METRICS": "*",
    }  # fmt: skip
    ElasticAPM(app)

if AGENT == "prometheus":
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

    ITEMS = Counter("items", "Items that were shown")
    AT_WORK = Gauge("at_work", "Workers that have shown one", multiprocess_mode="livesum")

    @app.route("/metrics")
    def metrics():
        """Report what all workers have counted."""
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)


@app.route("/")
def index():
    """Say that the worker serves."""
    return str(os.getpid())


@app.route("/items/<int:number>")
def item(number):
    """Show an item."""
    if AGENT == "prometheus":
        ITEMS.inc()
        AT_WORK.set(1)
    return f"item {number}"


@app.route("/fault")
def fault():
    """Fail."""
    raise LookupError("no such thing")


def plain(environ, start_response):
    """A WSGI application that no agent knows by its framework."""
    if environ["PATH_INFO"] == "/fault":
        raise LookupError("no such thing")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
