"""The name that is taken when none is given."""

from life import create

application = create()
