"""Atoms of one's own, and one that is not as delivered."""

from gunicorn.glogging import Logger

accesslog = "access.log"
access_log_format = "%(s)s %(x)s %(missing)s %(D)s %(kind)s %(length)s %({server}o)s"


class AtomLogger(Logger):
    """Adds the route's class and the client behind the proxy."""

    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["x"] = dict(req.headers).get("X-FORWARDED-FOR", "direct")
        atoms["kind"] = f"{resp.status_code // 100}xx"
        atoms["length"] = f"{resp.response_length}/{resp.sent}"
        atoms["D"] = f"{request_time.total_seconds() >= 0} {type(request_time).__name__}"
        return atoms


logger_class = AtomLogger
