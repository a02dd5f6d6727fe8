"""`gunicorn.sock`."""

from rgunicorn.sock import (
    BaseSocket,
    TCP6Socket,
    TCPSocket,
    UnixSocket,
    close_sockets,
    create_sockets,
    ssl_context,
    ssl_wrap_socket,
)
