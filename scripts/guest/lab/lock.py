"""One writer at a time for each thing in the cache."""

import fcntl
from contextlib import contextmanager
from pathlib import Path

from lab.places import cache
from lab.say import say


@contextmanager
def locked(name: str, doing: str):
    """Hold the lock NAME; say so when another lab has it and we wait.

    The kernel drops the lock with the process, so a killed lab leaves nothing
    to clean up. The file stays: removing it would let two holders in.
    """
    path: Path = cache() / f"{name}.lock"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another lab is {doing}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
