"""Metrics by datagram."""

import os

statsd_host = f"127.0.0.1:{os.environ['STATSD_PORT']}"
statsd_prefix = "shop"
dogstatsd_tags = "env:test,team:web"


def post_request(worker, req):
    worker.log.info("", extra={"metric": "shop.seen", "value": 3, "mtype": "counter"})
