"""The one way this program fails on purpose, and the exit codes it uses."""

EXIT_KERNEL_LOG = 90
"""CMD succeeded, but the kernel complained in its log."""

EXIT_GUEST_DIED = 91
"""The guest ended before CMD did: a panic, or QEMU itself failed."""

EXIT_USAGE = 2
EXIT_CANNOT = 3
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130


class Trouble(Exception):
    """What failed, why, and what to do, as the user should read it."""

    def __init__(self, what: str, *, exit_code: int = EXIT_CANNOT):
        super().__init__(what)
        self.exit_code = exit_code
