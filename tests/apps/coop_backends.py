"""Applications that call other services, written as if every call blocked: Flask with an HTTP service, SQL, Redis.

Which services there are says the environment: BACKEND, POSTGRESQL (a URL), POSTGRESQL_SOCKET, REDIS (a socket).
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402

import pg8000.dbapi  # noqa: E402
import psycopg_pool  # noqa: E402
import redis  # noqa: E402
import requests  # noqa: E402
import sqlalchemy  # noqa: E402
import urllib3  # noqa: E402
from flask import Flask, request  # noqa: E402

POOL_SIZE = 16
PATIENCE_S = 15.0

app = Flask(__name__)

if BACKEND := os.environ.get("BACKEND"):
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE, pool_block=True))
    manager = urllib3.PoolManager(num_pools=1, maxsize=POOL_SIZE, block=True, timeout=PATIENCE_S, retries=False)

if POSTGRESQL := os.environ.get("POSTGRESQL"):
    psycopg3 = psycopg_pool.ConnectionPool(
        POSTGRESQL, min_size=1, max_size=POOL_SIZE, timeout=PATIENCE_S, open=True, kwargs={"autocommit": True}
    )
    engine = sqlalchemy.create_engine(
        "postgresql+pg8000://", pool_size=POOL_SIZE, max_overflow=0, pool_timeout=PATIENCE_S,
        creator=lambda: pg8000.dbapi.connect("test", unix_sock=os.environ["POSTGRESQL_SOCKET"], database="postgres"),
        isolation_level="AUTOCOMMIT",
    )  # fmt: skip

if REDIS := os.environ.get("REDIS"):
    store = redis.Redis(unix_socket_path=REDIS, decode_responses=True, max_connections=POOL_SIZE * 2)


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.get("/requests/<path:path>")
def by_requests(path):
    answer = session.get(f"{BACKEND}/{path}", timeout=PATIENCE_S)
    answer.raise_for_status()
    return answer.text


@app.post("/requests/<path:path>")
def by_requests_upload(path):
    """The body is passed on as it comes in."""
    return session.post(f"{BACKEND}/{path}", data=request.get_data(), timeout=PATIENCE_S).content


@app.get("/urllib3/<path:path>")
def by_urllib3(path):
    answer = manager.request("GET", f"{BACKEND}/{path}")
    return answer.data, answer.status


@app.get("/<driver>/query")
def query(driver):
    """?sql=: the first value of the first row."""
    if driver == "psycopg":
        with psycopg3.connection() as connection:
            return str(connection.execute(request.args["sql"]).fetchone()[0])
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(request.args["sql"]).scalar())


@app.get("/psycopg/pool")
def pool():
    return {"size": psycopg3.get_stats()["pool_size"]}


@app.get("/blpop/<key>")
def blpop(key):
    """Waits in the server for an item."""
    found = store.blpop([key], timeout=PATIENCE_S)
    return found[1] if found else ("nothing", 504)


@app.get("/rpush/<key>/<value>")
def rpush(key, value):
    return str(store.rpush(key, value))


@app.get("/subscribe/<channel>")
def subscribe(channel):
    """Streams messages until one says `end`."""

    def messages():
        with store.pubsub() as listener:
            listener.subscribe(channel)
            for message in listener.listen():
                if message["type"] == "subscribe":
                    yield "subscribed\n"
                elif message["data"] == "end":
                    return
                else:
                    yield message["data"] + "\n"

    return messages()


@app.get("/publish/<channel>/<value>")
def publish(channel, value):
    return str(store.publish(channel, value))
