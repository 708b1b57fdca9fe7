"""The verdicts as a table of 100 columns, one line per metric."""

from lab.perftest.ratios import Spread, Verdict
from lab.perftest.trials import DEVICE, Metric

WIDTH = 100
_HEAD = ("test", "metric", "perftest", "peerpath", "n", "ratio", "control", "limit", "")
_LEFT = ("test", "metric", "")


def table(verdicts: list[Verdict]) -> str:
    lines = [_HEAD, *map(_line, verdicts)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = []
    for line in lines:
        padded = [
            cell.ljust(width) if head in _LEFT else cell.rjust(width)
            for head, cell, width in zip(_HEAD, line, widths)
        ]
        text.append(f"{'  '.join(padded).rstrip()}\n")
    return "".join(text)


def heading(conditions: dict, rounds: int) -> str:
    """The conditions of the comparison, and how to read the table."""
    shared = conditions["shared"]
    versions = f"{conditions['peerpath']}, perftest {conditions['perftest'].split()[-1]}"
    return f"""\
{versions}, Linux {conditions["kernel"]}, {conditions["processors"]} CPUs
On {DEVICE}: RC, MTU {shared["mtu_bytes"]}, host memory, no inline data; bandwidth with depth {shared["depth"]}, one work request
per post, every one signaled. {rounds} rounds; each runs perftest, peerpath, perftest several times, and the
two perftests take turns as reference and control. In ping-pong the responder runs on the CPU of
perftest's server: a thread of peerpath or, for "apart", `peerpath serve`. For latency both tools run
as SCHED_IDLE, so that the kernel threads that do the work of a NIC preempt them; these threads stay
on the client's CPU.
A ratio is a figure divided by that of the reference perftest. The table shows the median and the
interquartile range of all n ratios. SHORT: beyond the limit and outside the control's interquartile
range; noise: beyond the limit but inside that range. Latency is compared at its low end: higher
percentiles show how the host schedules an emulated machine."""


def figure(metric: Metric, value: float) -> str:
    if metric.more_is_better:
        return f"{value / 1e6:.1f} MB/s"
    return f"{value / 1e3:.1f} us" if value < 1e7 else f"{value / 1e6:.1f} ms"


def _line(verdict: Verdict) -> tuple[str, ...]:
    metric = verdict.metric
    return (
        verdict.trial.name,
        metric.name,
        figure(metric, verdict.perftest),
        figure(metric, verdict.peerpath),
        str(len(verdict.ours.ratios)),
        _spread(verdict.ours),
        _spread(verdict.control),
        f"{'>=' if metric.more_is_better else '<='}{metric.limit}",
        _verdict(verdict),
    )


def _spread(spread: Spread) -> str:
    return f"{spread.median:.3f} {spread.low:.2f}-{spread.high:.2f}"


def _verdict(verdict: Verdict) -> str:
    if verdict.falls_short:
        return "SHORT"
    return "noise" if verdict.is_beyond else "ok"
