"""Hooks by their dotted paths."""

when_ready = "team_hooks.when_ready"
post_fork = "team_hooks.post_fork"
post_request = "team_hooks.post_request"
