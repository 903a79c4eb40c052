"""What goes wrong for a user, as one line and an exit code; never a traceback."""


class CaptionerError(Exception):
    """Something could not be done: the message says what, where and what would be right, in a line.

    Raised by every room of the package for a fault that lies in the input or the machine rather
    than in the code. The command line prints the message after ``captioner: error:`` and ends with
    ``exit_code``.
    """

    exit_code = 1


class UsageError(CaptionerError):
    """The call itself was wrong: an unknown name, a missing file, a value out of range."""

    exit_code = 2
