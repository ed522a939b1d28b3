"""The one error that becomes a line for the user."""


class SightlineError(Exception):
    """A mistake the user can mend: which file, which record, what is wrong, what to do.

    The command line turns this error, and nothing else, into one line and exit code 2;
    any other exception is a bug of ours and keeps its traceback.
    """
