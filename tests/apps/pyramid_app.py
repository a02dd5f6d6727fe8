"""A small Pyramid application: routes, JSON, a subscriber, an exception view."""

from pyramid.config import Configurator
from pyramid.response import FileIter, Response


def greet(request):
    return {"hello": request.matchdict["name"], "seen": request.environ["REMOTE_ADDR"]}


def add(request):
    return {"sum": sum(request.json_body)}


def stream(request):
    with_file = open(__file__, "rb")  # noqa: SIM115 - FileIter closes it
    return Response(app_iter=FileIter(with_file), content_type="text/plain")


def fail(request):
    raise ValueError("handled by a view")


def failed(error, request):
    request.response.status = 418
    return {"error": str(error)}


with Configurator() as config:
    for name, path, view in [("greet", "/hello/{name}", greet), ("add", "/add", add), ("fail", "/fail", fail)]:
        config.add_route(name, path)
        config.add_view(view, route_name=name, renderer="json")
    config.add_route("stream", "/stream")
    config.add_view(stream, route_name="stream")
    config.add_exception_view(failed, context=ValueError, renderer="json")
    app = config.make_wsgi_app()
