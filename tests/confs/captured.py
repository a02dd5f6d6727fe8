"""Everything that is printed goes into the error log's file."""

errorlog = "error.log"
capture_output = True
loglevel = "warning"


def when_ready(server):
    print("printed when ready", flush=True)
    server.log.warning("logged when ready")
