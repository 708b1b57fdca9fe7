"""Locks for the entries of the cache: one writer at a time."""

import fcntl
from contextlib import contextmanager
from pathlib import Path

from lab.locations import cache
from lab.progress import progress


@contextmanager
def locked(name: str, doing: str):
    """Hold the lock NAME; print a line if another lab holds it.

    The kernel releases the lock when the process dies, so nothing needs cleaning up
    after a killed lab. The file stays, because two processes could otherwise lock
    two files of the same name.
    """
    path: Path = cache() / f"{name}.lock"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another lab is {doing}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
