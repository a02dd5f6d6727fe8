"""A logger class by its dotted path."""

logger_class = "team_hooks.ShoutingLogger"
loglevel = "INFO"
