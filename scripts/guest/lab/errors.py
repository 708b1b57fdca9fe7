"""The exception for expected errors, and the exit codes."""

EXIT_KERNEL_LOG = 90
"""The kernel log holds a warning."""

EXIT_GUEST_DIED = 91
"""The guest stopped before CMD exited: the kernel panicked, or QEMU failed."""

EXIT_USAGE = 2
EXIT_CANNOT = 3
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130


class LabError(Exception):
    """An error for the user: the failed operation, the reason, and the remedy."""

    def __init__(self, what: str, *, exit_code: int = EXIT_CANNOT):
        super().__init__(what)
        self.exit_code = exit_code
