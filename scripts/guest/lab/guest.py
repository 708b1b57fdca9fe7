"""Boots a guest, runs one command in it, and collects its logs."""

import ctypes
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lab import accel, klog, tools
from lab.kernel import Kernel, kernel
from lab.locations import GUEST, REPOSITORY, cache
from lab.progress import progress
from lab.scenarios import Scenario
from lab.errors import (
    EXIT_GUEST_DIED,
    EXIT_INTERRUPTED,
    EXIT_KERNEL_LOG,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    LabError,
)

# Additional guest memory for KASAN and lockdep.
_DEBUG_EXTRA_MIB = 2048
# virtme-ng and the kernel command line preserve only these characters of a path.
_SHAREABLE = re.compile(r"[a-zA-Z0-9_+/.-]+")
# QEMU warns about each CPU feature that TCG lacks, and about each of our networks,
# because they are not connected to the host.
_NOISE = re.compile(
    rb"warning: (TCG|host) doesn't support requested feature|is not connected to host network"
)
# Back end of the console in virtme-ng's command line.
_SILENT_CONSOLE = "file,id=console,path=/dev/null"


# Kernel options for an emulated CPU on a busy host. The kernel's timer tests race against the
# host's scheduler, and one of them panics when it loses. The host may also stop a
# vCPU for longer than any real CPU stops. One-shot timers are unreliable: QEMU 10.0
# lost the interrupt of one (the local APIC's count had expired, but no interrupt
# was pending and no next one was programmed), and every task that waited on that
# CPU hung. With a periodic tick the next interrupt recovers from a lost one.
_PATIENT = (
    "no_timer_check",
    "tsc=reliable",
    "rcupdate.rcu_cpu_stall_timeout=60",
    "nohz=off",
    "highres=off",
)


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    command_exit_code: int | None
    complaints: list[klog.Complaint]
    emulator_aborted: bool = False
    """QEMU failed an assertion; the command in the guest did not cause it."""


def run(
    scenario: Scenario,
    command: list[str],
    out: Path,
    *,
    debug: bool,
    timeout_s: int,
    output: Path | None = None,
) -> Outcome:
    """Run COMMAND in SCENARIO's guest; results and logs are written to OUT.

    The output of COMMAND goes to the terminal, or to the file OUTPUT.
    """
    check_shareable([out, *_target_folders()])
    tools.need_guest()
    virtme = tools.virtme_run()
    built = kernel(debug=debug)
    how = accel.accelerator(built.image)
    out.mkdir(parents=True, exist_ok=True)
    with _run_folder() as folder:
        _write_control_files(folder, scenario, command, out)
        shared = [folder, out, *_target_folders()]
        console = out / "console.txt"
        qemu = _qemu_command(virtme, built, scenario, shared, console, folder, how, debug=debug)
        kind = "debug kernel" if debug else "kernel"
        progress(f"booting {scenario.name} with {kind} {built.version} under {how.upper()}")
        started_s = time.monotonic()
        with _sinks(output) as sinks:
            verdict, aborted = _boot(qemu, sinks, console, folder, timeout_s)
        wall_s = time.monotonic() - started_s
        outcome = replace(_judge(folder, scenario, out, verdict), emulator_aborted=aborted)
        _report(outcome, scenario, built, out, how, debug=debug, wall_s=wall_s)
    return outcome


def _boot(
    qemu: list[str], sinks, console: Path, folder: Path, timeout_s: int
) -> tuple[int | None, bool]:
    """Boot the guest, and once more if QEMU aborts early. Returns two values: None if the
    guest shut down, otherwise the exit code; and whether QEMU aborted.

    QEMU's threads race for the memory map while the guest assigns addresses to its
    devices, and sometimes fail an assertion. Most of these aborts happen while the
    kernel boots, before COMMAND starts, so the guest is booted a second time.
    """
    console.write_bytes(b"")
    process = _Process(qemu, sinks)
    verdict = process.wait(timeout_s)
    if process.aborted and not (folder / "ready").exists():
        progress("QEMU aborted while the guest booted; booting again")
        console.write_bytes(b"")
        process = _Process(qemu, sinks)
        verdict = process.wait(timeout_s)
    return verdict, process.aborted


@contextmanager
def _sinks(output: Path | None):
    """Destinations of the guest's standard output and standard error."""
    if output is None:
        yield sys.stdout.buffer, sys.stderr.buffer
        return
    with open(output, "wb") as file:
        yield file, file


@contextmanager
def _run_folder():
    """Temporary folder of this run, for its control files and drive images."""
    runs = cache() / "runs"
    runs.mkdir(exist_ok=True)
    for left in runs.glob("*-*"):
        # Remove the folder of a lab process that was killed.
        if not Path("/proc", left.name.split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _target_folders() -> list[Path]:
    """Cargo's target directory, which the guest shares because tests read and write there."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
    target.mkdir(parents=True, exist_ok=True)
    return [target]


def check_shareable(paths: list[Path]) -> None:
    for path in paths:
        if not _SHAREABLE.fullmatch(str(path)):
            raise LabError(
                f"{path} cannot be shared with the guest: the path may hold only letters, digits "
                "and _ + - . /. Use a path without other characters.",
                exit_code=EXIT_USAGE,
            )


def _write_control_files(folder: Path, scenario: Scenario, command: list[str], out: Path) -> None:
    """Write the control files that inside.sh reads, and the drive images."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PEERPATH_", "RUST_")) and name != "PEERPATH_LAB"
    }
    environment |= {"PEERPATH_LAB_GUEST": scenario.name, "PEERPATH_LAB_OUT": str(out)}
    environment |= {
        f"PEERPATH_LAB_{function.name.upper()}": function.bdf for function in scenario.functions
    }
    environment |= {
        f"PEERPATH_LAB_{function.name.upper()}_IMAGE": str(function.image(folder))
        for function in scenario.functions
        if function.drive_mib
    }
    (folder / "environment.sh").write_text(
        "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    )
    (folder / "functions").write_text(
        "".join(f"{f.name} {f.bdf} {f.pci_id} {f.rdma or '-'}\n" for f in scenario.functions)
    )
    (folder / "command").write_text(
        f"cd {shlex.quote(str(REPOSITORY))}\nexec {shlex.join(command)}\n"
    )
    (folder / "prepare").write_text("".join(f"{line}\n" for line in scenario.prepare))
    for function in scenario.functions:
        if function.drive_mib:
            # Reproducible bytes that differ from those of an empty drive.
            content = random.Random(function.name).randbytes(function.drive_mib << 20)
            function.image(folder).write_bytes(content)


def _qemu_command(
    virtme: list[str],
    built: Kernel,
    scenario: Scenario,
    shared: list[Path],
    console: Path,
    folder: Path,
    how: str,
    *,
    debug: bool,
) -> list[str]:
    """QEMU's command line: virtme-ng's options for root file system and init, then ours.

    virtme-ng only prints the command line. This program starts QEMU, so that there
    is one process to time out, to interrupt and to clean up after.
    """
    memory_mib = scenario.memory_mib + (_DEBUG_EXTRA_MIB if debug else 0)
    inside = shlex.join(["bash", str(GUEST / "inside.sh"), str(folder)])
    arguments = ["--kimg", str(built.image), "--mods", "none", "--name", "peerpath-lab"]
    arguments += ["--memory", f"{memory_mib}M", "--cpus", str(scenario.cpus)]
    arguments += ["--disable-microvm", "--force-9p", "--script-sh", inside]
    arguments += ["--dry-run", "--show-command"]
    if how == "tcg":
        arguments.append("--disable-kvm")
    for overlay in ("/etc", "/var", "/tmp"):
        arguments += ["--overlay-rwdir", overlay]
    for path in shared:
        arguments += ["--rwdir", f"{path}={path}"]
    # Replaces the host's rules, if any.
    for rules in (Path("/usr/lib/udev/rules.d"), Path("/etc/udev/rules.d")):
        if rules.is_dir():
            arguments += ["--rodir", f"{rules}={GUEST / 'udev'}"]
    # virtme-ng silences the console while a script runs; the lab needs the log.
    for option in (*scenario.command_line, *_PATIENT, "loglevel=7"):
        arguments += ["--kopt", option]
    done = subprocess.run(
        [*virtme, *arguments],
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    if done.returncode != 0:
        raise LabError(
            "Cannot compose QEMU's command line: virtme-ng failed:\n"
            f"{(done.stdout + done.stderr).strip()}"
        )
    qemu = shlex.split(done.stdout)
    # virtme-ng also discards the console. A second serial port is not an alternative:
    # the kernel prints to only one port of each kind.
    qemu[qemu.index(_SILENT_CONSOLE)] = f"file,id=console,path={console}"
    # With the debug kernel and several vCPU threads, tasks hung on completed requests.
    # With one thread for all vCPUs, they did not.
    thread = "single" if debug else scenario.tcg_thread
    accelerator = ["-accel", f"tcg,thread={thread}" if how == "tcg" else "kvm"]
    return qemu + accelerator + scenario.qemu_arguments(folder)


class _Process:
    """A running QEMU: forwards its streams and dies with this program."""

    def __init__(self, command: list[str], sinks):
        self._qemu = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._pumps = [
            threading.Thread(target=_pump, args=streams, daemon=True)
            for streams in (
                (self._qemu.stdout, sinks[0], False),
                (self._qemu.stderr, sinks[1], True),
            )
        ]
        for pump in self._pumps:
            pump.start()

    @property
    def aborted(self) -> bool:
        """Whether QEMU failed an assertion."""
        return self._qemu.returncode == -signal.SIGABRT

    def wait(self, timeout_s: int) -> int | None:
        """Returns None if QEMU exited, otherwise the exit code and the reason for killing it."""
        try:
            self._qemu.wait(timeout_s)
            return None
        except subprocess.TimeoutExpired:
            progress(f"the guest did not stop within {timeout_s} s; killing it")
            return EXIT_TIMEOUT
        except KeyboardInterrupt:
            progress("interrupted; killing the guest")
            return EXIT_INTERRUPTED
        finally:
            if self._qemu.poll() is None:
                self._qemu.kill()
                self._qemu.wait()
            for pump in self._pumps:
                pump.join(timeout=5)


def _die_with_parent() -> None:
    """Make the kernel kill QEMU when this program dies, even by SIGKILL."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _pump(source, sink, drop_noise: bool) -> None:
    """Forward bytes as they arrive; line by line if noise is dropped."""
    with source:
        while data := (source.readline() if drop_noise else source.read1(65536)):
            if drop_noise and _NOISE.search(data):
                continue
            try:
                sink.write(data)
                sink.flush()
            except (BrokenPipeError, ValueError):
                # The reader closed the stream. Keep draining, or the guest blocks.
                continue


def _judge(folder: Path, scenario: Scenario, out: Path, killed: int | None) -> Outcome:
    console = (out / "console.txt").read_text(errors="replace")
    log = folder / "dmesg.txt"
    if log.exists():
        shutil.copyfile(log, out / "dmesg.txt")
    else:
        # The guest hung or died: the console is the only log.
        (out / "dmesg.txt").write_text(console)
    # The console also holds lines from after dmesg.txt was written.
    complaints = klog.scan(console, scenario.allowed_warning) or klog.scan(
        (out / "dmesg.txt").read_text(errors="replace"), scenario.allowed_warning
    )
    try:
        code = int((folder / "exit-code").read_text())
    except (FileNotFoundError, ValueError):
        code = None
    if killed is not None:
        return Outcome(killed, code, complaints)
    if complaints:
        return Outcome(EXIT_KERNEL_LOG, code, complaints)
    if code is None:
        stage = "during the command" if (folder / "ready").exists() else "before the command"
        progress(f"the guest stopped {stage}; last lines of its console:")
        print("\n".join(console.splitlines()[-15:]), file=sys.stderr)
        return Outcome(EXIT_GUEST_DIED, code, complaints)
    return Outcome(code, code, complaints)


def _report(
    outcome: Outcome,
    scenario: Scenario,
    built: Kernel,
    out: Path,
    how: str,
    *,
    debug: bool,
    wall_s: float,
) -> None:
    record = {
        "scenario": scenario.name,
        "kernel": built.version,
        "kernel_debian_version": built.debian_version,
        "debug_kernel": debug,
        "accelerator": how,
        "wall_s": round(wall_s, 1),
        "exit_code": outcome.exit_code,
        "command_exit_code": outcome.command_exit_code,
        "emulator_aborted": outcome.emulator_aborted,
        "kernel_complaints": [complaint.headline for complaint in outcome.complaints],
    }
    (out / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    for complaint in outcome.complaints:
        progress("the kernel log holds a warning:")
        print("\n".join(f"    {line}" for line in complaint.excerpt), file=sys.stderr)
    progress(f"guest done after {wall_s:.0f} s, exit code {outcome.exit_code}; logs in {out}")
