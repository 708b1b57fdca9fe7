"""What is measured with both tools, and how each is told to do the same.

Everything that the two must have in common stands in a `Trial` or in `Conditions`, and
both command lines are made of nothing else.
"""

from dataclasses import dataclass
from pathlib import Path

DEVICE = "rxe0"
PORT = 1
PEER_PORT = 18551
PEER = f"127.0.0.1:{PEER_PORT}"


@dataclass(frozen=True)
class Conditions:
    """What holds for every trial."""

    gid_index: int
    """Of RoCE v2 over IPv4; which number it has is the guest's affair."""
    mtu_bytes: int = 1024
    """What fits into an Ethernet frame of 1500 bytes."""
    depth: int = 16
    completion_moderation: int = 1
    post_list: int = 1
    inline_bytes: int = 0
    """Each tool has a default of its own."""
    server_cpu: int = 0
    """Of perftest's server, and of the thread or process of peerpath that answers."""
    client_cpu: int = 1
    """Of the one that measures."""
    kernel_cpu: int = 1
    """Of the kernel's threads that do the work of a NIC, where one operation is under way at a time. Left to themselves they
    change the processor, and it is chance who gets how many operations of which kind: handed over to the other processor,
    done on this one, or, where the next request is there before the kernel has gone to sleep after the last one, without any
    wakening, in half of the time. That tells nothing of the tools. On the processor of the client an operation is one chain
    of instructions, and what a tool adds shows in each."""


@dataclass(frozen=True)
class Metric:
    """A figure that both tools have, and how far ours may be from perftest's."""

    key: str
    name: str
    limit: float
    """Of our figure divided by perftest's."""
    more_is_better: bool = False

    def beyond(self, ratio: float) -> bool:
        return ratio < self.limit if self.more_is_better else ratio > self.limit


MINIMUM = Metric("min_ns", "min", 1.05)
TENTH = Metric("p10_ns", "p10", 1.05)
THROUGHPUT = Metric("bytes_per_s", "mean", 0.98, more_is_better=True)


@dataclass(frozen=True)
class Trial:
    name: str
    program: str
    """Of perftest."""
    op: str
    mode: str
    size_bytes: int
    iterations: int
    metrics: tuple[Metric, ...]
    is_apart: bool = False
    """Whether peerpath is two processes as well, `serve` and `run --peer`."""
    turns: int = 1
    """How often in each round, each a pair of its own."""

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace(" ", "-")

    @property
    def is_latency(self) -> bool:
        return THROUGHPUT not in self.metrics


# Medians and what lies above them tell under emulation how the host's scheduler shared out
# the processors; what a tool adds to an operation shows in the operations it did not disturb.
_LATENCY = (MINIMUM, TENTH)
# The host's clock may differ by a third from one run to the next one, which nine pairs do not level out.
_TURNS = 3
TRIALS = (
    Trial("read latency", "ib_read_lat", "read", "completion", 64, 2000, _LATENCY, turns=_TURNS),
    Trial("write ping-pong", "ib_write_lat", "write", "pingpong", 64, 2000, _LATENCY, turns=_TURNS),
    Trial("write ping-pong, apart", "ib_write_lat", "write", "pingpong", 64, 2000, _LATENCY, is_apart=True, turns=_TURNS),
    Trial("send ping-pong", "ib_send_lat", "send", "pingpong", 64, 2000, _LATENCY, turns=_TURNS),
    # A mean has all that the host's scheduler and its clock did meanwhile: two runs of perftest one after the other were
    # seen to differ by a quarter as a rule, which nine pairs do not level out. Longer runs did not help.
    Trial("write bandwidth", "ib_write_bw", "write", "bandwidth", 65536, 500, (THROUGHPUT,), turns=4),
    Trial("send bandwidth", "ib_send_bw", "send", "bandwidth", 65536, 500, (THROUGHPUT,), turns=4),
)


def perftest_arguments(trial: Trial, conditions: Conditions) -> list[str]:
    """The same for its server and its client, as it demands."""
    arguments = [
        f"--ib-dev={DEVICE}",
        f"--ib-port={PORT}",
        "--connection=RC",
        f"--gid-index={conditions.gid_index}",
        f"--mtu={conditions.mtu_bytes}",
        f"--size={trial.size_bytes}",
        f"--iters={trial.iterations}",
    ]
    if trial.op != "read":
        arguments.append(f"--inline_size={conditions.inline_bytes}")
    if trial.is_latency:
        # Its summary has no percentile below the median: every sample, then.
        return [*arguments, "--report-unsorted"]
    return [
        *arguments,
        f"--tx-depth={conditions.depth}",
        f"--cq-mod={conditions.completion_moderation}",
        f"--post_list={conditions.post_list}",
        # A time stamp an operation, for a peak that nobody asked for.
        "--noPeak",
    ]


def peerpath_arguments(trial: Trial, conditions: Conditions, out: Path) -> list[str]:
    arguments = {
        "--to": f"verbs:{DEVICE}/{PORT}",
        "--op": trial.op,
        "--mode": trial.mode,
        "--connection": "rc",
        "--gid-index": conditions.gid_index,
        "--mtu": conditions.mtu_bytes,
        "--size": trial.size_bytes,
        "--iterations": trial.iterations,
        "--warmup": 0,
        "--inline": conditions.inline_bytes,
        "--out": out,
    }
    if trial.is_apart:
        arguments |= {"--peer": PEER, "--cpu": conditions.client_cpu}
    else:
        arguments |= {"--from": _memory(trial)}
        if trial.mode == "pingpong":
            # The thread that measures, and the one that answers. Else all of it is where it was started.
            arguments |= {"--cpu": f"{conditions.client_cpu},{conditions.server_cpu}"}
    if not trial.is_latency:
        arguments |= {
            "--depth": conditions.depth,
            "--completion-moderation": conditions.completion_moderation,
            "--post-list": conditions.post_list,
        }
    return ["run", *_words(arguments)]


def serve_arguments(trial: Trial, conditions: Conditions) -> list[str]:
    """Of the other process."""
    arguments = {
        "--from": _memory(trial),
        "--to": f"verbs:{DEVICE}/{PORT}",
        "--gid-index": conditions.gid_index,
        "--mtu": conditions.mtu_bytes,
        "--listen": PEER,
    }
    return ["serve", *_words(arguments)]


def _memory(trial: Trial) -> str:
    """Room for one operation: perftest uses the same bytes again and again, too."""
    return f"host:{max(trial.size_bytes, 4096)}"


def _words(arguments: dict) -> list[str]:
    return [str(word) for pair in arguments.items() for word in pair]
