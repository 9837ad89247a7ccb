"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what to do.

    `launch.py` prints the message without a traceback and exits with code 2. Anything else that is
    raised is a defect of this software and keeps its traceback.
    """
