"""`scripts/setup`: installs what building, testing and the lab need."""

import argparse
import os
import re
import shutil
import subprocess
import sys

from lab import apt, cargo_tools, tools
from lab.progress import progress
from lab.tools import Tool
from lab.errors import EXIT_CANNOT, LabError

BUILD = (
    Tool("gcc", "gcc"),
    Tool("pkg-config", "pkg-config"),
    # To load libibverbs at run time: the build generates the bindings
    # and compiles their loader.
    Tool("cmake", "cmake"),
    Tool("libclang-dev", library="llvm-*/lib/libclang*.so*"),
    # For the feature verbs-link, which links libibverbs: the version of bindgen supports
    # libclang up to 15.
    Tool("libibverbs-dev", header="infiniband/verbs.h"),
    Tool("librdmacm-dev", header="rdma/rdma_cma.h"),
    Tool("libclang-14-dev", library="llvm-1[45]/lib/libclang.so*", optional=True),
)
RDMA = (
    Tool("ibverbs-providers", library="x86_64-linux-gnu/libibverbs/librxe-rdmav*.so"),
    Tool("rdma-core", file="/lib/udev/rules.d/*rdma*.rules"),
)
LAB = (
    *tools.KERNEL_BUILD,
    *tools.GUEST_RUN[1:],
    # A lab test compares its output with sysfs in the guest.
    Tool("pciutils", "lspci"),
    Tool("python3-pip", module="pip"),
)
# Tools that only scripts/test uses.
CHECKS = (
    Tool("shellcheck", "shellcheck"),
    # A test opens reports with this browser, without a desktop.
    Tool("chromium-headless-shell", "chromium-headless-shell", optional=True),
    *tools.PERFTEST,
)


_COSTS = """\
Installs   missing Debian packages with apt-get, as root (`--check` lists them): compiler, cmake,
           libclang, libibverbs, QEMU, iproute2, the tools of a kernel build; shellcheck, perftest and
           chromium-headless-shell (not with --no-lint). QEMU comes from backports if Debian's QEMU is older than 8.0.
           virtme-ng from PyPI, cargo-deny from crates.io (not with --no-lint); both go into ~/.cache/peerpath.
Needs      Rust 1.88 or newer, which it does not install (https://rustup.rs). Without apt or root it only lists what is
           missing.
Time       a few minutes the first time, seconds when nothing is missing
Download   on a bare Debian 12 about 330 MB of packages, 190 MB with --no-lint
Disk       1.5 GB for these packages, 1.0 GB with --no-lint

exit code: 0 everything is installed, 3 something is missing or cannot be installed, 2 wrong usage
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description="Installs the packages that the build, the tests and the lab need.",
        epilog=_COSTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="list missing packages and install nothing")
    parser.add_argument("--no-lint", action="store_true", help="skip the tools that only scripts/test uses")
    chosen = parser.parse_args()
    wanted = BUILD + RDMA + LAB + (() if chosen.no_lint else CHECKS)
    try:
        return _check(wanted) if chosen.check else _install(wanted, lint=not chosen.no_lint)
    except LabError as error:
        print(f"scripts/setup: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _check(wanted: tuple[Tool, ...]) -> int:
    lacking = tools.missing(wanted) + ([] if _qemu_is_new_enough() else ["qemu-system-x86"])
    lacking += [] if shutil.which("cargo") else ["cargo (https://rustup.rs)"]
    if lacking:
        print("missing: " + ", ".join(lacking))
        return EXIT_CANNOT
    print("nothing is missing")
    return 0


def _install(wanted: tuple[Tool, ...], *, lint: bool) -> int:
    lacking, old_qemu = tools.missing(wanted), not _qemu_is_new_enough()
    if lacking or old_qemu:
        _need_apt_and_root(lacking + (["qemu-system-x86 8.0 or newer"] if old_qemu else []))
        progress("updating the package index")
        # A broken third-party source does not stop the set-up: the installation
        # fails later if a package is missing.
        subprocess.run(["apt-get", "-q", "update"], stdout=subprocess.DEVNULL)
    if lacking:
        progress(f"installing {', '.join(lacking)}")
        _apt_install(["apt-get"], lacking)
    _install_optional(wanted)
    if old_qemu:
        _install_qemu()
    # Check after installing the packages: root installs them, and root's PATH often
    # lacks a user's Rust.
    if not shutil.which("cargo"):
        raise LabError(
            "Cannot find cargo in PATH. Install Rust 1.88 or newer from https://rustup.rs."
        )
    tools.virtme_run()
    if lint:
        cargo_tools.cargo_deny()
    progress("everything is installed")
    return 0


def _install_optional(wanted: tuple[Tool, ...]) -> None:
    """Install the optional packages that this machine's archive has."""
    for tool in wanted:
        if tool.optional and not tool.present():
            offered = apt.available() and os.geteuid() == 0 and subprocess.run(
                ["apt-cache", "show", tool.package], capture_output=True
            )
            if offered and offered.returncode == 0:
                progress(f"installing {tool.package}")
                _apt_install(["apt-get"], [tool.package])
            else:
                progress(f"{tool.package} is not available: checks that need it will be waived")


def _qemu_is_new_enough() -> bool:
    version = tools.qemu_version()
    return version is not None and version >= tools.QEMU_MINIMUM


def _need_apt_and_root(lacking: list[str]) -> None:
    if not apt.available():
        raise LabError(
            f"Cannot install {', '.join(lacking)} (Debian's package names): this machine has no "
            "apt. Install them with this system's package manager, then run scripts/setup again."
        )
    if os.geteuid() != 0:
        raise LabError(
            f"Cannot install {', '.join(lacking)}: only root can. "
            "Run `sudo scripts/setup` once, then scripts/setup as this user."
        )


def _install_qemu() -> None:
    """Install QEMU from the host's package sources if it is new enough, otherwise from backports."""
    policy = subprocess.run(
        ["apt-cache", "policy", "qemu-system-x86"], text=True, capture_output=True
    )
    candidate = re.search(r"Candidate: (?:\d+:)?(\d+)\.(\d+)", policy.stdout)
    if candidate and (int(candidate[1]), int(candidate[2])) >= tools.QEMU_MINIMUM:
        progress("installing QEMU from this host's package sources")
        _apt_install(["apt-get"], ["qemu-system-x86"])
        return
    codename = apt.os_release().get("VERSION_CODENAME", "")
    backports = f"{codename}-backports"
    progress(f"this host's QEMU package is too old; installing QEMU from {backports}")
    private_apt = apt.PrivateApt([codename, backports], sees_installed=True)
    private_apt.update()
    _apt_install(private_apt.command("apt-get", "-t", backports), ["qemu-system-x86"])


def _apt_install(command: list[str], packages: list[str]) -> None:
    done = subprocess.run(
        [*command, "-q", "-y", "--no-install-recommends", "install", *packages],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        raise LabError(
            f"Cannot install {', '.join(packages)}: apt-get failed:\n{done.stdout.strip()[-2000:]}\n"
            "Fix the error that apt-get reports, or install these packages manually."
        )
