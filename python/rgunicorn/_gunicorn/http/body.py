"""`gunicorn.http.body`."""

from rgunicorn.body import Body, ChunkedReader, EOFReader, LengthReader
