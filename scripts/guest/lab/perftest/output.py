"""Reads the figures of both tools in the same units: nanoseconds, and bytes per second."""

import math
import re

from lab.perftest.trials import Trial

# perftest prints MB for MiB.
_UNIT_BYTES_PER_S = {"MB/sec": 1 << 20, "MiB/sec": 1 << 20, "Gb/sec": 10**9 / 8}
_UNIT_NS = {"usec": 1000.0}
_SAMPLES = re.compile(r"^#, (?P<unit>\w+)\n(?P<lines>(?:\d+, [0-9.e+-]+\n)+)", re.MULTILINE)
_BANDWIDTH = re.compile(
    r"^ #bytes +#iterations +BW peak\[\S+\] +BW average\[(?P<unit>\S+)\] +MsgRate\[Mpps\]\s*\n"
    r" (?P<size>\d+)\s+(?P<iterations>\d+)\s+\S+\s+(?P<average>\S+)\s+(?P<rate>\S+)\s*$",
    re.MULTILINE,
)


class Unreadable(Exception):
    """The output of a tool does not hold the requested figures."""


def of_perftest(trial: Trial, text: str) -> dict[str, float]:
    """The figures of TRIAL in the output of perftest's client."""
    return _samples(trial, text) if trial.is_latency else _bandwidth(trial, text)


def _samples(trial: Trial, text: str) -> dict[str, float]:
    match = _SAMPLES.search(text)
    if match is None or match["unit"] not in _UNIT_NS:
        raise Unreadable("perftest did not print a list of samples in microseconds")
    unit_ns = _UNIT_NS[match["unit"]]
    samples = [float(line.split(", ")[1]) * unit_ns for line in match["lines"].splitlines()]
    # Each sample is the time from the start of one operation to the start of the next.
    if len(samples) != trial.iterations - 1:
        raise Unreadable(f"perftest printed {len(samples)} samples, expected {trial.iterations - 1}")
    samples.sort()
    return {"min_ns": samples[0], "p10_ns": percentile(samples, 10)}


def percentile(ordered: list[float], percent: int) -> float:
    """The smallest sample that at least PERCENT of all samples do not exceed."""
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def _bandwidth(trial: Trial, text: str) -> dict[str, float]:
    match = _BANDWIDTH.search(text)
    if match is None or match["unit"] not in _UNIT_BYTES_PER_S:
        raise Unreadable("perftest did not print a bandwidth table in a known unit")
    size_bytes, iterations = int(match["size"]), int(match["iterations"])
    if (size_bytes, iterations) != (trial.size_bytes, trial.iterations):
        raise Unreadable(f"perftest measured {iterations} operations of {size_bytes} bytes")
    bytes_per_s = float(match["average"]) * _UNIT_BYTES_PER_S[match["unit"]]
    by_rate = float(match["rate"]) * 1e6 * size_bytes
    # The message rate gives the same figure in a unit that is not ambiguous.
    if not math.isclose(bytes_per_s, by_rate, rel_tol=0.01):
        raise Unreadable(
            f"perftest's bandwidth is {bytes_per_s:.0f} B/s, but {by_rate:.0f} B/s by its message rate"
        )
    return {"bytes_per_s": bytes_per_s}


def of_peerpath(trial: Trial, result: dict) -> dict[str, float]:
    """The figures of TRIAL in peerpath's result file."""
    cells = result.get("cells", [])
    if len(cells) != 1:
        raise Unreadable(f"peerpath measured {len(cells)} cells, expected one")
    cell = cells[0]
    if cell["outcome"] != "passed":
        raise Unreadable(f"peerpath's cell {cell['outcome']}: {cell.get('reason')}")
    asked = {"op": trial.op, "mode": trial.mode, "size_bytes": trial.size_bytes}
    asked["iterations"] = trial.iterations
    for key, value in asked.items():
        if cell[key] != value:
            raise Unreadable(f"peerpath's cell has {key} {cell[key]}, expected {value}")
    if not trial.is_latency:
        return {"bytes_per_s": cell["throughput_bytes_per_s"]}
    latency = cell["latency_ns"]
    return {"min_ns": latency["min"], "p10_ns": latency["p10"]}
