"""The verdicts for people: a line a metric, 100 columns."""

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
    """What was compared under which conditions, and why this."""
    shared = conditions["shared"]
    versions = f"{conditions['peerpath']}, perftest {conditions['perftest'].split()[-1]}"
    return f"""\
{versions}, Linux {conditions["kernel"]}, {conditions["processors"]} processors
On {DEVICE}: reliable connection, MTU {shared["mtu_bytes"]}, host memory, no inline data; bandwidth with {shared["depth"]} under way,
posted one by one, a completion each. {rounds} rounds of perftest, peerpath, perftest, several times in each;
which of the two perftests counts and which is the control alternates. In ping-pong the side that
answers has the processor of perftest's server: a thread of peerpath, or, apart, `peerpath serve`. For
latency both tools give way (SCHED_IDLE) to the kernel's own threads, which are the NIC here and stay
on the processor of the client.
A ratio is a figure divided by that of the perftest beside it; shown are the median of all n and
between which values their middle half lies. SHORT is beyond the limit and outside of the control's
middle half; noise is beyond the limit, but within it. Of latencies the low end is compared: what lies
higher tells how the host's scheduler shares out an emulated machine."""


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
