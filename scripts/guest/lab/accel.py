"""Tests whether KVM works, by booting a kernel under it.

/dev/kvm may exist and open although a guest under it hangs: this happens on hosts that are
virtual machines. The test kernel must reach the panic about the missing root
file system.
"""

import json
import os
import subprocess
from pathlib import Path

from lab.lock import locked
from lab.locations import cache, write_whole
from lab.progress import progress
from lab.tools import QEMU
from lab.errors import EXIT_USAGE, LabError

_OVERRIDE = "PEERPATH_LAB_ACCEL"
_PATIENCE_S = 20
_BOOTED = "Unable to mount root fs"


def accelerator(image: Path) -> str:
    """"kvm" if the kernel IMAGE boots under KVM, else "tcg"."""
    override = os.environ.get(_OVERRIDE)
    if override:
        if override not in ("kvm", "tcg"):
            raise LabError(
                f"Invalid {_OVERRIDE}={override}. Set it to kvm or tcg, or unset it.",
                exit_code=EXIT_USAGE,
            )
        return override
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    # The verdict is valid until the host reboots.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = cache() / "kvm.json"
    works = _known(record, boot)
    if works is None:
        with locked("kvm", "testing KVM"):
            works = _known(record, boot)
            if works is None:
                progress("testing KVM with a boot")
                works = _boots(image)
                write_whole(record, json.dumps({"boot": boot, "works": works}) + "\n")
                progress("KVM works" if works else "KVM does not work; emulating the processor")
    return "kvm" if works else "tcg"


def _known(record: Path, boot: str) -> bool | None:
    try:
        known = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return known["works"] if known.get("boot") == boot else None


def _boots(image: Path) -> bool:
    command = [QEMU, "-M", "q35,kernel-irqchip=split", "-accel", "kvm", "-cpu", "EPYC", "-m", "256"]
    command += ["-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot"]
    command += ["-device", "intel-iommu,intremap=on"]
    command += ["-serial", "stdio", "-kernel", str(image), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return _BOOTED in done.stdout.decode(errors="replace")
