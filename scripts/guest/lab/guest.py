"""Boots a guest, runs one command in it, and brings everything out."""

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
from lab.places import GUEST, REPOSITORY, cache
from lab.say import say
from lab.scenarios import Scenario
from lab.trouble import (
    EXIT_GUEST_DIED,
    EXIT_INTERRUPTED,
    EXIT_KERNEL_LOG,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    Trouble,
)

# KASAN and lockdep need room of their own.
_DEBUG_EXTRA_MIB = 2048
# What survives virtme-ng and the kernel's command line in a shared folder's path.
_SHAREABLE = re.compile(r"[a-zA-Z0-9_+/.-]+")
# QEMU says of every processor feature that TCG lacks that it lacks it, and of
# every network of ours that it leads nowhere.
_NOISE = re.compile(
    rb"warning: (TCG|host) doesn't support requested feature|is not connected to host network"
)
# The console's back end in the command line that virtme-ng composes.
_SILENT_CONSOLE = "file,id=console,path=/dev/null"


# For a processor that is emulated on a host that may be busy: the kernel's tests
# of its timers are races against the host's scheduler, one of which ends in a
# panic. A vCPU may also stand still for longer than a real processor ever would.
# And one-shot timers are not to be relied upon: QEMU 10.0 was seen to lose the
# interrupt of one (a local APIC's count had run out, and neither was a request
# pending nor the next one programmed), and all that waited on that processor
# waited for ever. Of a periodic tick the next one comes anyway.
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
    """By an assertion of its own: nothing that ran in the guest is to blame."""


def run(
    scenario: Scenario,
    command: list[str],
    out: Path,
    *,
    debug: bool,
    timeout_s: int,
    output: Path | None = None,
) -> Outcome:
    """Run COMMAND in SCENARIO's guest; its results and logs end up in OUT.

    What COMMAND prints goes to the terminal, or into the file OUTPUT.
    """
    check_shareable([out, *_target_folders()])
    tools.need_guest()
    virtme = tools.virtme_run()
    built = kernel(debug=debug)
    how = accel.accelerator(built.image)
    out.mkdir(parents=True, exist_ok=True)
    with _run_folder() as folder:
        _fill(folder, scenario, command, out)
        shared = [folder, out, *_target_folders()]
        console = out / "console.txt"
        qemu = _qemu_command(virtme, built, scenario, shared, console, folder, how, debug=debug)
        kind = "debug kernel" if debug else "kernel"
        say(f"booting {scenario.name} with {kind} {built.version} under {how.upper()}")
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
    """None when the guest ended by itself, else the exit code that says why not; and
    whether QEMU aborted.

    QEMU's threads race for the memory map while the guest moves its devices about,
    which now and then ends in an assertion of QEMU's own. Mostly that is while the
    kernel boots: nothing of the run has begun by then, so it begins once more.
    """
    console.write_bytes(b"")
    process = _Process(qemu, sinks)
    verdict = process.wait(timeout_s)
    if process.aborted and not (folder / "ready").exists():
        say("QEMU itself aborted while the guest booted; booting once more")
        console.write_bytes(b"")
        process = _Process(qemu, sinks)
        verdict = process.wait(timeout_s)
    return verdict, process.aborted


@contextmanager
def _sinks(output: Path | None):
    """Where the guest's standard output and its errors go."""
    if output is None:
        yield sys.stdout.buffer, sys.stderr.buffer
        return
    with open(output, "wb") as file:
        yield file, file


@contextmanager
def _run_folder():
    """A folder of this run's own: its control files and its drives' images."""
    runs = cache() / "runs"
    runs.mkdir(exist_ok=True)
    for left in runs.glob("*-*"):
        # Of a lab that was killed before it could clean up.
        if not Path("/proc", left.name.split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _target_folders() -> list[Path]:
    """Where Cargo builds: tests write there beside what they read."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
    target.mkdir(parents=True, exist_ok=True)
    return [target]


def check_shareable(paths: list[Path]) -> None:
    for path in paths:
        if not _SHAREABLE.fullmatch(str(path)):
            raise Trouble(
                f"{path} cannot be shared with the guest: only letters, digits and _ + - . / "
                "survive in such a path. Move it to one without other characters.",
                exit_code=EXIT_USAGE,
            )


def _fill(folder: Path, scenario: Scenario, command: list[str], out: Path) -> None:
    """Write what inside.sh reads, and the drives."""
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
            # The same bytes every time, none of which an empty drive would have.
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
    """QEMU's command line: virtme-ng's, for its root file system and init, and ours.

    virtme-ng only composes it. QEMU is started here, so that there is one
    process to time out, to interrupt and to clean up after.
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
    # In place of the host's rules, where the host has any.
    for rules in (Path("/usr/lib/udev/rules.d"), Path("/etc/udev/rules.d")):
        if rules.is_dir():
            arguments += ["--rodir", f"{rules}={GUEST / 'udev'}"]
    # virtme-ng keeps the console silent while a script runs; we want the log.
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
        raise Trouble(f"virtme-ng refused its arguments:\n{(done.stdout + done.stderr).strip()}")
    qemu = shlex.split(done.stdout)
    # And it throws the console away. A second serial port would not do: the
    # kernel prints to one port of a kind only.
    qemu[qemu.index(_SILENT_CONSOLE)] = f"file,id=console,path={console}"
    # Under the slow debug kernel tasks were seen to sleep for ever on requests that
    # had been answered; with one thread for all vCPUs they were not.
    thread = "single" if debug else scenario.tcg_thread
    accelerator = ["-accel", f"tcg,thread={thread}" if how == "tcg" else "kvm"]
    return qemu + accelerator + scenario.qemu_arguments(folder)


class _Process:
    """QEMU while it runs: streams passed on, and no way to outlive us."""

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
        """Whether it ended by an assertion of its own."""
        return self._qemu.returncode == -signal.SIGABRT

    def wait(self, timeout_s: int) -> int | None:
        """None when QEMU ended by itself, else the exit code that says why not."""
        try:
            self._qemu.wait(timeout_s)
            return None
        except subprocess.TimeoutExpired:
            say(f"the guest did not end within {timeout_s} s; killing it")
            return EXIT_TIMEOUT
        except KeyboardInterrupt:
            say("interrupted; killing the guest")
            return EXIT_INTERRUPTED
        finally:
            if self._qemu.poll() is None:
                self._qemu.kill()
                self._qemu.wait()
            for pump in self._pumps:
                pump.join(timeout=5)


def _die_with_parent() -> None:
    """Have the kernel kill QEMU when this program is killed, however hard."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _pump(source, sink, drop_noise: bool) -> None:
    """Pass bytes on as they come; whole lines only where noise is dropped."""
    with source:
        while data := (source.readline() if drop_noise else source.read1(65536)):
            if drop_noise and _NOISE.search(data):
                continue
            try:
                sink.write(data)
                sink.flush()
            except (BrokenPipeError, ValueError):
                # Nobody reads any more. Keep draining, or the guest would block.
                continue


def _judge(folder: Path, scenario: Scenario, out: Path, killed: int | None) -> Outcome:
    console = (out / "console.txt").read_text(errors="replace")
    log = folder / "dmesg.txt"
    if log.exists():
        shutil.copyfile(log, out / "dmesg.txt")
    else:
        # Hung or dead: the console has all that will ever be known.
        (out / "dmesg.txt").write_text(console)
    # The console also has what came after the log was written.
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
        say(f"the guest ended {stage}; the end of its console:")
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
        say("the kernel complained:")
        print("\n".join(f"    {line}" for line in complaint.excerpt), file=sys.stderr)
    say(f"guest done after {wall_s:.0f} s, exit code {outcome.exit_code}; logs in {out}")
