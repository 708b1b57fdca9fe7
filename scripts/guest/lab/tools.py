"""The programs that the lab needs, and tests whether they are installed."""

import glob
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.lock import locked
from lab.locations import GUEST, cache
from lab.progress import progress
from lab.errors import LabError

QEMU = "qemu-system-x86_64"
QEMU_MINIMUM = (8, 0)


@dataclass(frozen=True)
class Tool:
    """A required Debian package, and a test whether it is installed.

    The test looks for the files of the package and not for the package, because
    other systems have other package names.
    """

    package: str
    program: str | None = None
    header: str | None = None
    library: str | None = None
    file: str | None = None
    module: str | None = None
    optional: bool = False
    """Whether the package is optional: not every Debian release has it, and only some checks need it."""

    def present(self) -> bool:
        if self.program is not None:
            return shutil.which(self.program) is not None
        if self.module is not None:
            return importlib.util.find_spec(self.module) is not None
        return any(glob.glob(pattern) for pattern in self._patterns())

    def _patterns(self) -> list[str]:
        if self.header is not None:
            return [f"/usr/include/{self.header}", f"/usr/local/include/{self.header}"]
        if self.library is not None:
            return [f"{base}/{self.library}" for base in ("/usr/lib", "/usr/lib64", "/lib")]
        return [self.file or ""]


KERNEL_BUILD = (
    Tool("gcc", "gcc"),
    Tool("make", "make"),
    Tool("flex", "flex"),
    Tool("bison", "bison"),
    Tool("bc", "bc"),
    Tool("patch", "patch"),
    Tool("xz-utils", "xz"),
    Tool("libelf-dev", header="gelf.h"),
)
GUEST_RUN = (
    Tool("qemu-system-x86", QEMU),
    Tool("iproute2", "rdma"),
    Tool("iproute2", "ip"),
    Tool("udev", "udevadm"),
    Tool("kmod", "modprobe"),
)
PERFTEST = (
    Tool("perftest", "ib_read_lat"),
    Tool("perftest", "ib_send_bw"),
)


def missing(tools: tuple[Tool, ...]) -> list[str]:
    """The packages of all required tools that are not installed, each once."""
    # Not every user's PATH has sbin, but the guest runs as root.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return sorted({tool.package for tool in tools if not tool.optional and not tool.present()})


def need(tools: tuple[Tool, ...], purpose: str) -> None:
    packages = missing(tools)
    if packages:
        raise LabError(
            f"Cannot {purpose}: {', '.join(packages)} (Debian's package names) not found. "
            "Run scripts/setup, or install them with this system's package manager."
        )


def compiler_version() -> str:
    need(KERNEL_BUILD[:1], "build the guest's kernel")
    done = subprocess.run(["gcc", "--version"], text=True, capture_output=True, check=True)
    return done.stdout.splitlines()[0]


def qemu_version() -> tuple[int, int] | None:
    """QEMU's version; None if QEMU is not installed."""
    if shutil.which(QEMU) is None:
        return None
    done = subprocess.run([QEMU, "--version"], text=True, capture_output=True)
    match = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def need_guest() -> None:
    need(GUEST_RUN, "boot a guest")
    version = qemu_version()
    if version is None or version < QEMU_MINIMUM:
        found = "of unknown version" if version is None else f"{version[0]}.{version[1]}"
        raise LabError(
            f"Cannot boot a guest with QEMU {found}: the lab needs {QEMU_MINIMUM[0]}."
            f"{QEMU_MINIMUM[1]} or newer. Run scripts/setup, or install a newer QEMU."
        )


def virtme_run() -> list[str]:
    """The command that starts virtme-ng; installs it in the cache at first use."""
    pinned = GUEST / "requirements.txt"
    key = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache() / "tools" / f"virtme-ng-{key}"
    if not home.exists():
        with locked("virtme-ng", "installing virtme-ng"):
            if not home.exists():
                progress("installing virtme-ng from PyPI")
                _install_python_packages(pinned, home)
    # virtme-run needs only the standard library, so no virtual environment.
    script = (
        f"import sys; sys.path.insert(0, {str(home)!r}); "
        "from virtme.commands.run import main; sys.exit(main())"
    )
    return [sys.executable, "-c", script]


def _install_python_packages(pinned: Path, home: Path) -> None:
    partial = home.with_name(f"partial-{home.name}")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        + ["--disable-pip-version-check", "--target", str(partial), "-r", str(pinned)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise LabError(
            f"Cannot install virtme-ng: pip failed:\n{done.stdout.strip()[-1500:]}\n"
            "Check that PyPI or your mirror of it is reachable and that python3-pip is installed."
        )
    partial.rename(home)
