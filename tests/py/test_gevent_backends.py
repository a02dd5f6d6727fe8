"""Requests that wait for an HTTP service, PostgreSQL and Redis: one worker has as many under way as clients ask for."""

import pytest
import requests
from harness import wait_for
from rawhttp import request

# Fewer than the pools of the application hold.
SEVERAL = 12


def bodies(answers):
    assert [answer.status for answer in answers] == [200] * len(answers), answers
    return [answer.body.decode() for answer in answers]


class TestHttp:
    """`requests` and urllib3, each with one pool for the process."""

    @pytest.fixture
    def server(self, launch_gevent, backend):
        return launch_gevent("coop_backends:app", env={"BACKEND": backend.url})

    @pytest.mark.parametrize("library", ["requests", "urllib3"])
    def test_calls_are_under_way_at_once(self, server, backend, library):
        """The service answers none before it has all."""
        found = bodies(server.together([f"/{library}/meet/{SEVERAL}"] * SEVERAL))
        assert found == [f"/meet/{SEVERAL}"] * SEVERAL

    @pytest.mark.parametrize("library", ["requests", "urllib3"])
    def test_connections_are_pooled(self, server, backend, library):
        """Rounds of calls need no more connections than calls that were under way at once."""
        for _ in range(3):
            bodies(server.together([f"/{library}/{number}" for number in range(SEVERAL)]))
        assert backend.connections <= SEVERAL

    def test_a_slow_service_holds_nobody_up(self, server, backend):
        with server.client() as client:
            client.send(request("/requests/hold"))
            wait_for("the call", lambda: backend.holding == 1)
            assert bodies(server.together(["/urllib3/quick"] * 3)) == ["/quick"] * 3
            backend.release()
            assert client.response().body == b"/hold"

    def test_a_client_that_leaves_while_its_call_is_under_way(self, server, backend):
        with server.client() as client:
            client.send(request("/requests/hold"))
            wait_for("the call", lambda: backend.holding == 1)
        assert bodies(server.together(["/requests/quick"] * 3)) == ["/quick"] * 3
        backend.release()
        assert bodies(server.together(["/requests/quick"] * 3)) == ["/quick"] * 3
        assert "Traceback" not in server.log

    def test_large_bodies_both_ways(self, server, backend):
        payload = bytes(range(256)) * 8192
        answer = requests.post(f"{server.url}/requests/echo", data=payload, timeout=20)
        assert answer.status_code == 200
        assert answer.content == payload


class TestPostgreSQL:
    """psycopg 3 with its own pool, whose workers are threads, and pg8000 with SQLAlchemy's."""

    @pytest.fixture(scope="class")
    def server(self, launch_gevent_module, postgresql):
        env = {"POSTGRESQL": postgresql.url, "POSTGRESQL_SOCKET": postgresql.socket}
        return launch_gevent_module("coop_backends:app", env=env)

    @pytest.fixture(params=["psycopg", "pg8000"])
    def driver(self, request):
        return request.param

    def test_rows(self, server, driver):
        found = bodies(server.together([f"/{driver}/query?sql=SELECT+{number}*2" for number in range(SEVERAL)]))
        assert found == [str(number * 2) for number in range(SEVERAL)]

    def test_queries_are_under_way_at_once(self, server, driver, postgresql):
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

    def test_sleeping_queries(self, server, driver):
        query = f"/{driver}/query?sql=SELECT+1+FROM+pg_sleep(0.2)"
        assert bodies(server.together([query] * SEVERAL)) == ["1"] * SEVERAL

    def test_more_requests_than_connections(self, server, driver):
        """The pools hold 16 connections; the other requests wait for theirs, inside of the application."""
        query = f"/{driver}/query?sql=SELECT+1+FROM+pg_sleep(0.02)"
        assert bodies(server.together([query] * 60)) == ["1"] * 60

    def test_an_error_leaves_the_pool_whole(self, server, driver):
        answers = server.together([f"/{driver}/query?sql=SELECT+nonsense"] * 20)
        assert [answer.status for answer in answers] == [500] * 20
        assert bodies(server.together([f"/{driver}/query?sql=SELECT+1"] * 20)) == ["1"] * 20

    def test_a_large_result(self, server, driver):
        query = f"/{driver}/query?sql=SELECT+repeat('0123456789',200000)"
        assert bodies(server.together([query] * 3)) == ["0123456789" * 200_000] * 3


class TestRedis:
    """redis-py over its pool of connections."""

    @pytest.fixture(scope="class")
    def server(self, launch_gevent_module, redis_server):
        return launch_gevent_module("coop_backends:app", env={"REDIS": redis_server.socket})

    def test_one_request_waits_for_anothers_item(self, server, redis_server):
        with server.client() as client:
            client.send(request("/blpop/one"))
            wait_for("the wait", lambda: redis_server.client.info("clients")["blocked_clients"] == 1)
            assert server.get("/rpush/one/item").status == 200
            assert client.response().body == b"item"

    def test_many_wait_at_once(self, server, redis_server):
        clients = [server.client() for _ in range(SEVERAL)]
        for client in clients:
            client.send(request("/blpop/many"))
        wait_for("all waits", lambda: redis_server.client.info("clients")["blocked_clients"] == SEVERAL)
        bodies(server.together([f"/rpush/many/{number}" for number in range(SEVERAL)]))
        found = bodies([client.response() for client in clients])
        assert sorted(map(int, found)) == list(range(SEVERAL))
        for client in clients:
            client.close()

    def test_messages_are_streamed(self, server):
        with server.client() as client:
            client.send(request("/subscribe/news"))
            assert client.head().chunked
            assert client.chunk() == b"subscribed\n"
            for number in range(3):
                assert server.get(f"/publish/news/{number}").body == b"1"
                assert client.chunk() == b"%d\n" % number
            server.get("/publish/news/end")
            assert client.chunk() == b""
