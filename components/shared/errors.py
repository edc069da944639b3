"""Errors that a user can act on."""


class UserError(SystemExit):
    """A mistake the user can fix: Python prints the sentence alone, without a trace, and exits with 1."""
