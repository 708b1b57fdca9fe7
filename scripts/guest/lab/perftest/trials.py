"""The tests, and equivalent command lines for both tools.

`Trial` and `Conditions` hold every setting that the tools must share; both command lines
are built from them alone.
"""

from dataclasses import dataclass
from pathlib import Path

DEVICE = "rxe0"
PORT = 1
PEER_PORT = 18551
PEER = f"127.0.0.1:{PEER_PORT}"


@dataclass(frozen=True)
class Conditions:
    """The settings that all trials share."""

    gid_index: int
    """Index of the RoCE v2 GID over IPv4 in the guest."""
    mtu_bytes: int = 1024
    """The largest RDMA MTU that fits into an Ethernet MTU of 1500 bytes."""
    depth: int = 16
    completion_moderation: int = 1
    post_list: int = 1
    inline_bytes: int = 0
    """Set explicitly, because the defaults of the tools differ."""
    server_cpu: int = 0
    """CPU of perftest's server, and of peerpath's responder (thread or process)."""
    client_cpu: int = 1
    """CPU of the initiator, which measures."""
    kernel_cpu: int = 1
    """CPU of the kernel threads that do the work of a NIC, for tests with one operation in flight. Unpinned
    threads migrate between CPUs. The time per operation then depends on the CPU that the thread runs on, and
    on whether the request arrives before the thread sleeps. These differences say nothing about the tools. On
    the client's CPU, each operation runs sequentially, so its time includes the tool's overhead."""


@dataclass(frozen=True)
class Metric:
    """A figure that both tools report, and the limit of the ratio."""

    key: str
    name: str
    limit: float
    """Limit of peerpath's figure divided by perftest's."""
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
    """perftest's program."""
    op: str
    mode: str
    size_bytes: int
    iterations: int
    metrics: tuple[Metric, ...]
    is_apart: bool = False
    """Whether peerpath also runs as two processes, `serve` and `run --peer`."""
    turns: int = 1
    """Repetitions per round; each yields its own ratio."""

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace(" ", "-")

    @property
    def is_latency(self) -> bool:
        return THROUGHPUT not in self.metrics


# Under emulation, the median and higher percentiles show how the host's scheduler shared the
# CPUs. A tool's overhead shows in the operations that the scheduler did not disturb.
_LATENCY = (MINIMUM, TENTH)
# The host's clock frequency may differ by a third between two runs; nine pairs do not
# average that out.
_TURNS = 3
TRIALS = (
    Trial("read latency", "ib_read_lat", "read", "completion", 64, 2000, _LATENCY, turns=_TURNS),
    Trial("write ping-pong", "ib_write_lat", "write", "pingpong", 64, 2000, _LATENCY, turns=_TURNS),
    Trial("write ping-pong, apart", "ib_write_lat", "write", "pingpong", 64, 2000, _LATENCY, is_apart=True, turns=_TURNS),
    Trial("send ping-pong", "ib_send_lat", "send", "pingpong", 64, 2000, _LATENCY, turns=_TURNS),
    # A mean includes all effects of the host's scheduler and clock: two successive runs
    # of perftest usually differ by a quarter, which nine pairs do not average out.
    # Longer runs do not help.
    Trial("write bandwidth", "ib_write_bw", "write", "bandwidth", 65536, 500, (THROUGHPUT,), turns=4),
    Trial("send bandwidth", "ib_send_bw", "send", "bandwidth", 65536, 500, (THROUGHPUT,), turns=4),
)


def perftest_arguments(trial: Trial, conditions: Conditions) -> list[str]:
    """Arguments for perftest's server and client; perftest requires both to have the same arguments."""
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
        # The summary has no percentile below the median, so print every sample.
        return [*arguments, "--report-unsorted"]
    return [
        *arguments,
        f"--tx-depth={conditions.depth}",
        f"--cq-mod={conditions.completion_moderation}",
        f"--post_list={conditions.post_list}",
        # The peak costs a time stamp per operation, and it is not compared.
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
        # perftest runs once; rounds of both programs alternate instead.
        "--repeat": 1,
        "--warmup": 0,
        "--inline": conditions.inline_bytes,
        "--out": out,
    }
    if trial.is_apart:
        arguments |= {"--peer": PEER, "--cpu": conditions.client_cpu}
    else:
        arguments |= {"--from": _memory(trial)}
        if trial.mode == "pingpong":
            # One CPU for the initiator's thread, one for the responder's. In other modes all
            # threads stay on the CPU of the process.
            arguments |= {"--cpu": f"{conditions.client_cpu},{conditions.server_cpu}"}
    if not trial.is_latency:
        arguments |= {
            "--depth": conditions.depth,
            "--completion-moderation": conditions.completion_moderation,
            "--post-list": conditions.post_list,
        }
    return ["run", *_words(arguments)]


def serve_arguments(trial: Trial, conditions: Conditions) -> list[str]:
    """Arguments of the serving process."""
    arguments = {
        "--from": _memory(trial),
        "--to": f"verbs:{DEVICE}/{PORT}",
        "--gid-index": conditions.gid_index,
        "--mtu": conditions.mtu_bytes,
        "--listen": PEER,
    }
    return ["serve", *_words(arguments)]


def _memory(trial: Trial) -> str:
    """Memory for one operation: perftest also reuses the same bytes."""
    return f"host:{max(trial.size_bytes, 4096)}"


def _words(arguments: dict) -> list[str]:
    return [str(word) for pair in arguments.items() for word in pair]
