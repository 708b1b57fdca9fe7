"""Progress messages. They go to stderr, because stdout is for the output of CMD."""

import sys
import time

_started_s = time.monotonic()


def progress(text: str) -> None:
    """Print one line, stamped with the minutes and seconds since the start."""
    elapsed_s = int(time.monotonic() - _started_s)
    print(f"lab [{elapsed_s // 60:2}:{elapsed_s % 60:02}] {text}", file=sys.stderr, flush=True)
