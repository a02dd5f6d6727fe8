"""Requests that wait for PostgreSQL, by psycopg 3 with its own pool (run by threads) and pg8000 in SQLAlchemy's.

One worker has as many queries under way as clients ask for.
"""

import pytest
from harness import bodies, wait_for
from rawhttp import request

# Fewer than the pools of the application hold.
SEVERAL = 12


@pytest.fixture(scope="module")
def server(launch_gevent_module, postgresql):
    env = {"POSTGRESQL": postgresql.url, "POSTGRESQL_SOCKET": postgresql.socket}
    return launch_gevent_module("coop_backends:app", env=env)


@pytest.fixture(params=["psycopg", "pg8000"])
def driver(request):
    return request.param


def test_rows(server, driver):
    found = bodies(server.together([f"/{driver}/query?sql=SELECT+{number}*2" for number in range(SEVERAL)]))
    assert found == [str(number * 2) for number in range(SEVERAL)]


def test_queries_are_under_way_at_once(server, driver, postgresql):
    """They wait for a lock that the test holds, and the server's table of locks shows all of them."""
    number = 1 if driver == "psycopg" else 2
    query = f"/{driver}/query?sql=SELECT+1+FROM+pg_advisory_lock_shared({number})"
    clients = [server.client() for _ in range(SEVERAL)]
    with postgresql.lock(number) as waiting:
        for client in clients:
            client.send(request(query))
        wait_for(f"{SEVERAL} queries that wait", lambda: waiting() == SEVERAL)
        # Requests without a query are not held up.
        assert server.get("/pid").status == 200
    assert bodies([client.response() for client in clients]) == ["1"] * SEVERAL
    for client in clients:
        client.close()


def test_sleeping_queries(server, driver):
    query = f"/{driver}/query?sql=SELECT+1+FROM+pg_sleep(0.2)"
    assert bodies(server.together([query] * SEVERAL)) == ["1"] * SEVERAL


def test_more_requests_than_connections(server, driver):
    """The pools hold 16 connections; the other requests wait for theirs, inside of the application."""
    query = f"/{driver}/query?sql=SELECT+1+FROM+pg_sleep(0.02)"
    assert bodies(server.together([query] * 60)) == ["1"] * 60


def test_an_error_leaves_the_pool_whole(server, driver):
    answers = server.together([f"/{driver}/query?sql=SELECT+nonsense"] * 20)
    assert [answer.status for answer in answers] == [500] * 20
    assert bodies(server.together([f"/{driver}/query?sql=SELECT+1"] * 20)) == ["1"] * 20


def test_a_large_result(server, driver):
    query = f"/{driver}/query?sql=SELECT+repeat('0123456789',200000)"
    assert bodies(server.together([query] * 3)) == ["0123456789" * 200_000] * 3
