"""``python -m gunicorn``, where rgunicorn stands in for it."""

from rgunicorn.__main__ import main

if __name__ == "__main__":
    main()
