"""A driver that is made cooperative in every worker."""

from standins import patch_psycopg

workers = 2


def post_fork(server, worker):
    patch_psycopg()
    worker.log.info("Made Psycopg2 Green")
