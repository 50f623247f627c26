"""The exceptions that a user is meant to read."""


class UserError(Exception):
    """A problem the user can mend: one line naming the file, the key and the fix."""

    exit_code = 2


class Unwritable(UserError):
    """The system refused to write a file."""


class Busy(UserError):
    """Another process is writing the same run; trying again later is right (EX_TEMPFAIL)."""

    exit_code = 75


class Stopped(Exception):
    """A training saved and stopped before it was done, as asked; the same command goes on where it stopped."""

    exit_code = 85
