"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(Exception):
    """Bad input. The message is one line that names the file, row or key and what was expected; the exit code is 2."""
