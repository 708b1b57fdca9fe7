"""Finds warnings and error reports in a kernel log.

A run fails if the kernel warned, even if its command succeeded, so every log is
scanned. A scenario that provokes a warning on purpose names a part of its text
in `allowed_warning`.
"""

import re
from dataclasses import dataclass

# The kernel prints each of these only if it detects a fault in the kernel.
_COMPLAINTS = re.compile(
    r"""
      \bWARNING:\s
    | \bBUG:\s
    | \bKASAN:\s
    | \bUBSAN:\s
    | \bKCSAN:\s
    | \bKFENCE:\s
    | \bODEBUG:\s
    | kernel\ BUG\ at\s
    | \bOops\b
    | general\ protection\ fault
    | Kernel\ panic
    | unable\ to\ handle\ (kernel|page)
    | possible\ circular\ locking
    | possible\ recursive\ locking
    | possible\ irq\ lock\ inversion
    | inconsistent\ lock\ state
    | bad\ unlock\ balance
    | \bINFO:\ possible\s
    | \bINFO:\ trying\ to\ register\ non-static\ key
    | suspicious\ RCU\ usage
    | sleeping\ function\ called
    | scheduling\ while\ atomic
    | workqueue\ lockup
    | soft\ lockup
    | hard\ LOCKUP
    | \bblocked\ for\ more\ than\s
    | \bhung_task:
    | detected\ (expedited\ )?stalls
    | self-detected\ stall
    | refcount_t:\s
    | list_(add|del)\ corruption
    | \bDMA-API:\s
    | swiotlb\ buffer\ is\ full
    | stack-protector:
    | \bBad\ page\ (state|map)
    | unreferenced\ object
    """,
    re.VERBOSE,
)

# Kernel lines carry a time stamp. Lines that programs write to the console do
# not, and may contain the word WARNING.
_KERNEL_LINE = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])?\s?")
_USER_SPACE = re.compile(r"^(virtme-(?:ng-)?init|systemd-[a-z]+\[\d+\]|udevd?\[\d+\]):")

_REPORT_END = "---[ end trace"
_REPORT_START = "[ cut here ]"
_EXCERPT_LINES = 40


@dataclass(frozen=True)
class Complaint:
    """One report of the kernel: the line that matched, and the lines after it."""

    headline: str
    excerpt: tuple[str, ...]


def kernel_lines(text: str) -> list[str]:
    """Returns the kernel's lines without their time stamps."""
    lines = []
    for raw in text.splitlines():
        stamp = _KERNEL_LINE.match(raw)
        if stamp is None:
            continue
        line = raw[stamp.end() :].rstrip()
        if not _USER_SPACE.match(line):
            lines.append(line)
    return lines


def scan(text: str, allowed: str | None = None) -> list[Complaint]:
    """Every complaint in TEXT except those whose report contains ALLOWED.

    A report ends where the next complaint begins, so an allowed one never hides
    the next.
    """
    lines = kernel_lines(text)
    starts = [at for at, line in enumerate(lines) if _COMPLAINTS.search(line)]
    complaints = []
    for start, next_start in zip(starts, starts[1:] + [len(lines)]):
        report = tuple(_report(lines[start : min(next_start, start + _EXCERPT_LINES)]))
        if allowed is None or not any(allowed in line for line in report):
            complaints.append(Complaint(lines[start], report))
    return complaints


def _report(lines: list[str]):
    for line in lines:
        if _REPORT_START in line:
            return
        yield line
        if _REPORT_END in line:
            return
