"""An access log without the load balancer's questions."""

from gunicorn import glogging

accesslog = "access.log"
access_log_format = '%(m)s %(U)s %(s)s "%(a)s"'


class CustomGunicornLogger(glogging.Logger):
    """Leaves out health checks and probes."""

    def access(self, resp, req, environ, request_time):
        if req.path in ("/health", "/ready") or "kube-probe" in environ.get("HTTP_USER_AGENT", ""):
            return
        super().access(resp, req, environ, request_time)


logger_class = CustomGunicornLogger
