"""A Django project in one package: `settings`, `urls` (with the views) and `wsgi`.

Its database is `db.sqlite3` in the working directory.
"""
