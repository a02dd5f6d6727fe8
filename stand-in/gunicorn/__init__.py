"""rgunicorn under Gunicorn's name: the import gives the package that rgunicorn provides (`rgunicorn.compat`)."""

from rgunicorn import _stand_in

_stand_in.take_over(__file__)
