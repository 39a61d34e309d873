"""The exception for a user's mistake: the `basicsr` command prints it as one line and exits with status 2."""


class UserError(ValueError):
    """Something that the user can mend; the message says what was wanted, what was got and what to do."""
