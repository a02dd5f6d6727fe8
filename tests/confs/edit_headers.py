"""What the application shall see, changed before it sees it."""

import uuid


def pre_request(worker, req):
    req.headers[:] = [(name, value) for name, value in req.headers if name != "X-INTERNAL"]
    names = [name for name, _ in req.headers]
    if "X-REQUEST-ID" not in names:
        req.headers.append(("X-REQUEST-ID", str(uuid.UUID(int=7))))
    req.headers.append(("X-QUERY", f"{req.method}|{req.path}|{req.query}|{req.fragment}|{req.version}"))
    if ("X-PLEASE", "secure") in req.headers:
        req.scheme = "https"
