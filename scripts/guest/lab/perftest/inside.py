"""Runs the rounds in the guest, one after the other.

    python3 -m lab.perftest.inside FOLDER PEERPATH ROUNDS

Writes to FOLDER: conditions.json, rounds.json (one record per round, trial and turn, written after each) and
the output of every run of both tools.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lab.perftest import output, trials
from lab.perftest.output import Unreadable
from lab.perftest.show import figure
from lab.perftest.trials import TRIALS, Conditions, Trial
from lab.locations import write_whole

_FIRST_TCP_PORT = 18515
_SERVER_ADDRESS = "127.0.0.1"
# A run takes one or two seconds, so a run that exceeds this timeout hangs.
_TIMEOUT_S = 120
# State of a listening socket in /proc/net/tcp.
_LISTENING = "0A"
_TOKEN = "shared by these two processes"
# CPU mask of the kernel's unbound workqueue threads.
_KERNEL_CPUS = Path("/sys/devices/virtual/workqueue/cpumask")


def main(folder: Path, peerpath: Path, rounds: int) -> int:
    conditions = Conditions(gid_index=_gid_index())
    write_whole(folder / "conditions.json", json.dumps(_describe(conditions, peerpath), indent=2) + "\n")
    done: list[dict] = []
    all_cpus = _KERNEL_CPUS.read_text()
    for number in range(1, rounds + 1):
        for trial, turn in ((trial, turn) for trial in TRIALS for turn in range(1, trial.turns + 1)):
            _KERNEL_CPUS.write_text(f"{1 << conditions.kernel_cpu:x}" if trial.is_latency else all_cpus)
            record = _round(number, turn, trial, conditions, folder, peerpath)
            done.append(record)
            write_whole(folder / "rounds.json", json.dumps(done, indent=2) + "\n")
            print(_line(record, trial, rounds), flush=True)
    return 0


def _round(
    number: int, turn: int, trial: Trial, conditions: Conditions, folder: Path, peerpath: Path
) -> dict:
    """Run perftest, peerpath, and perftest again as the control. Every other turn reverses the order, so that
    neither tool always runs first."""
    order = ["perftest", "peerpath", "control"]
    if (number + turn) % 2:
        order.reverse()
    record: dict = {"round": number, "turn": turn, "test": trial.name, "order": order, "wrong": [], "repeated": []}
    for who in order:
        own = folder / "runs" / f"{number}-{turn}-{trial.folder}-{who}"
        own.mkdir(parents=True)
        try:
            if who == "peerpath":
                record[who] = _run_peerpath(trial, conditions, own, peerpath)
            else:
                record[who] = _run_perftest_with_retry(trial, conditions, own, record["repeated"])
        except (Unreadable, subprocess.TimeoutExpired) as error:
            record["wrong"].append(f"{who}: {error}")
    return record


def _run_perftest_with_retry(
    trial: Trial, conditions: Conditions, own: Path, repeated: list[str]
) -> dict[str, float]:
    """Run perftest, and once more if it fails, because it rejects a CPU clock that varies. peerpath gets no
    second attempt."""
    try:
        return _run_perftest(trial, conditions, own)
    except (Unreadable, subprocess.TimeoutExpired) as error:
        repeated.append(str(error))
        return _run_perftest(trial, conditions, own)


def _run_peerpath(
    trial: Trial, conditions: Conditions, own: Path, peerpath: Path
) -> dict[str, float]:
    with contextlib.ExitStack() as until_done:
        if trial.is_apart:
            until_done.enter_context(_serving(trial, conditions, own, peerpath))
        arguments = trials.peerpath_arguments(trial, conditions, own)
        sink = until_done.enter_context(open(own / "output.txt", "wb"))
        done = subprocess.run(
            [peerpath, *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PEERPATH_TOKEN": _TOKEN},
            preexec_fn=lambda: _prepare(trial, conditions.client_cpu),
            timeout=_TIMEOUT_S,
        )
    if done.returncode != 0:
        raise Unreadable(f"exit code {done.returncode}: {_end_of(own / 'output.txt')}")
    return output.of_peerpath(trial, json.loads((own / "result.json").read_text()))


@contextlib.contextmanager
def _serving(trial: Trial, conditions: Conditions, own: Path, peerpath: Path):
    """Run `peerpath serve` on the CPU of perftest's server."""
    command = [peerpath, *trials.serve_arguments(trial, conditions)]
    with (
        open(own / "serve.txt", "wb") as sink,
        open(own / "errors.txt", "wb") as errors,
        _on_cpu(conditions.server_cpu, trial, command, sink, errors) as server,
    ):
        try:
            _wait_until_listening(trials.PEER_PORT, server, own)
            yield
        finally:
            server.terminate()
            try:
                server.wait(_TIMEOUT_S)
            finally:
                server.kill()


def _run_perftest(trial: Trial, conditions: Conditions, own: Path) -> dict[str, float]:
    """Run perftest's server and client, each on its own CPU."""
    tcp_port = _FIRST_TCP_PORT + _run_perftest.calls
    _run_perftest.calls += 1
    command = [trial.program, *trials.perftest_arguments(trial, conditions), f"--port={tcp_port}"]
    with (
        open(own / "server.txt", "wb") as server_sink,
        open(own / "client.txt", "wb") as client_sink,
        # Separate files, because stderr is unbuffered and stdout is written only at exit.
        open(own / "errors.txt", "wb") as errors,
        _on_cpu(conditions.server_cpu, trial, command, server_sink, errors) as server,
    ):
        try:
            _wait_until_listening(tcp_port, server, own)
            command.append(_SERVER_ADDRESS)
            with _on_cpu(conditions.client_cpu, trial, command, client_sink, errors) as client:
                try:
                    code = client.wait(_TIMEOUT_S)
                finally:
                    client.kill()
            if code != 0:
                raise Unreadable(f"the client exited with {code}: {_end_of(own / 'errors.txt')}")
            server_code = server.wait(_TIMEOUT_S)
            if server_code != 0:
                raise Unreadable(f"the server exited with {server_code}: {_end_of(own / 'errors.txt')}")
        finally:
            server.kill()
    return output.of_perftest(trial, (own / "client.txt").read_text())


# Each run uses a new port: the last one may still be in TIME_WAIT.
_run_perftest.calls = 0


def _on_cpu(cpu: int, trial: Trial, command: list[str], sink, errors) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=errors,
        env=os.environ | {"PEERPATH_TOKEN": _TOKEN},
        preexec_fn=lambda: _prepare(trial, cpu),
    )


def _prepare(trial: Trial, cpu: int) -> None:
    """Pin a process to one CPU before its set-up: the kernel threads that work for it tend to stay on the
    CPU of the set-up. (In ping-pong, peerpath gets both CPUs through --cpu.)"""
    _lower_priority(trial)
    os.sched_setaffinity(0, {cpu})


def _lower_priority(trial: Trial) -> None:
    """For latency, run as SCHED_IDLE, so that the kernel threads that do the work of a NIC preempt the
    tools. A polling loop delays them for its whole time slice, and perftest runs two such loops on the
    guest's two CPUs. With many operations in flight both tools wait for the kernel anyway."""
    if trial.is_latency:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _wait_until_listening(tcp_port: int, server: subprocess.Popen, own: Path) -> None:
    """Wait until the server's socket listens; perftest's message arrives late because stdout is buffered."""
    given_up_s = time.monotonic() + _TIMEOUT_S
    while not _listens(tcp_port):
        if server.poll() is not None:
            raise Unreadable(f"the server exited with {server.returncode}: {_end_of(own / 'errors.txt')}")
        if time.monotonic() > given_up_s:
            raise Unreadable("the server does not listen")
        time.sleep(0.02)


def _listens(tcp_port: int) -> bool:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if state == _LISTENING and int(local.rsplit(":")[-1], 16) == tcp_port:
                return True
    return False


def _end_of(path: Path) -> str:
    return " / ".join(path.read_text(errors="replace").split("\n")[-6:]).strip(" /")


def _gid_index() -> int:
    """Index of the RoCE v2 GID over IPv4; both tools use it."""
    port = Path("/sys/class/infiniband", trials.DEVICE, "ports", str(trials.PORT))
    for gid in sorted((port / "gids").iterdir(), key=lambda path: int(path.name)):
        try:
            kind = (port / "gid_attrs" / "types" / gid.name).read_text().strip()
        except OSError:
            # Reading the type of an unused GID entry fails.
            continue
        if kind == "RoCE v2" and gid.read_text().startswith("0000:0000:0000:0000:0000:ffff:"):
            return int(gid.name)
    raise SystemExit(f"{trials.DEVICE} has no RoCE v2 GID over IPv4")


def _describe(conditions: Conditions, peerpath: Path) -> dict:
    """The conditions of the measurement, for the result file."""

    def output_of(*command: str | Path) -> str:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip()

    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "MHz" in line]
    clock = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return {
        "perftest": output_of("ib_read_lat", "--version"),
        "peerpath": output_of(peerpath, "--version"),
        "kernel": os.uname().release,
        "processors": len(cpus),
        "processor_mhz": float(cpus[0].split(":")[1]),
        "clock_source": clock.read_text().strip(),
        "shared": asdict(conditions),
        "tests": [
            {
                "name": trial.name,
                "perftest": [trial.program, *trials.perftest_arguments(trial, conditions)],
                "peerpath": trials.peerpath_arguments(trial, conditions, Path("DIR")),
                **({"serve": trials.serve_arguments(trial, conditions)} if trial.is_apart else {}),
            }
            for trial in TRIALS
        ],
    }


def _line(record: dict, trial: Trial, rounds: int) -> str:
    turn = f" {record['turn']}/{trial.turns}" if trial.turns > 1 else ""
    begin = f"round {record['round']}/{rounds} {trial.name}{turn}: "
    begin += "".join(f"(perftest repeated: {why}) " for why in record["repeated"])
    if record["wrong"]:
        return begin + "; ".join(record["wrong"])
    metric = trial.metrics[0]
    figures = [f"{who} {figure(metric, record[who][metric.key])}" for who in record["order"]]
    return begin + ", ".join(figures)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
