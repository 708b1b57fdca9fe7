"""What scripts/setup does: brings a machine to where everything here runs."""

import argparse
import os
import re
import shutil
import subprocess
import sys

from lab import apt, cargo_tools, tools
from lab.say import say
from lab.tools import Tool
from lab.trouble import EXIT_CANNOT, Trouble

BUILD = (
    Tool("gcc", "gcc"),
    Tool("pkg-config", "pkg-config"),
    # libibverbs loaded at run time: its bindings are generated and their loader
    # is compiled while building.
    Tool("cmake", "cmake"),
    Tool("libclang-dev", library="llvm-*/lib/libclang*.so*"),
    # The feature verbs-link binds libibverbs when linking, through a bindgen
    # that understands libclang up to 15.
    Tool("libibverbs-dev", header="infiniband/verbs.h"),
    Tool("librdmacm-dev", header="rdma/rdma_cma.h"),
    Tool("libclang-14-dev", library="llvm-1[45]/lib/libclang.so*", optional=True),
)
RDMA = (
    Tool("ibverbs-providers", library="x86_64-linux-gnu/libibverbs/librxe-rdmav*.so"),
    Tool("rdma-core", file="/lib/udev/rules.d/*rdma*.rules"),
)
LAB = (*tools.KERNEL_BUILD, *tools.GUEST_RUN[1:], Tool("python3-pip", module="pip"))
# What only scripts/test uses.
CHECKS = (
    Tool("shellcheck", "shellcheck"),
    # Opens reports in a test; it needs no desktop.
    Tool("chromium-headless-shell", "chromium-headless-shell", optional=True),
    *tools.PERFTEST,
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/setup", description="Installs what building, testing and the lab need."
    )
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("--no-lint", action="store_true", help="without what only scripts/test uses")
    chosen = parser.parse_args()
    wanted = BUILD + RDMA + LAB + (() if chosen.no_lint else CHECKS)
    try:
        return _check(wanted) if chosen.check else _install(wanted, lint=not chosen.no_lint)
    except Trouble as trouble:
        print(f"scripts/setup: {trouble}", file=sys.stderr)
        return trouble.exit_code
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
        say("updating the package index")
        # One broken third-party source must not stop us: the installation
        # itself fails if what it needs cannot be had.
        subprocess.run(["apt-get", "-q", "update"], stdout=subprocess.DEVNULL)
    if lacking:
        say(f"installing {', '.join(lacking)}")
        _apt_install(["apt-get"], lacking)
    _install_optional(wanted)
    if old_qemu:
        _install_qemu()
    # After the packages, which root installs: the Rust of a user is not in root's PATH.
    if not shutil.which("cargo"):
        raise Trouble("Cargo is not installed. Get Rust 1.88 or newer from https://rustup.rs.")
    tools.virtme_run()
    if lint:
        cargo_tools.cargo_deny()
    say("everything is installed")
    return 0


def _install_optional(wanted: tuple[Tool, ...]) -> None:
    """What this machine can do without, where its archive has it."""
    for tool in wanted:
        if tool.optional and not tool.present():
            offered = apt.available() and os.geteuid() == 0 and subprocess.run(
                ["apt-cache", "show", tool.package], capture_output=True
            )
            if offered and offered.returncode == 0:
                say(f"installing {tool.package}")
                _apt_install(["apt-get"], [tool.package])
            else:
                say(f"going without {tool.package}: what needs it will be waived")


def _qemu_is_new_enough() -> bool:
    version = tools.qemu_version()
    return version is not None and version >= tools.QEMU_MINIMUM


def _need_apt_and_root(lacking: list[str]) -> None:
    if not apt.available():
        raise Trouble(
            f"Missing: {', '.join(lacking)} (Debian's package names), and this machine has no "
            "apt. Install them the way this system does, then run scripts/setup again."
        )
    if os.geteuid() != 0:
        raise Trouble(
            f"Missing: {', '.join(lacking)}, and installing them needs root. "
            "Run `sudo scripts/setup` once, then scripts/setup as yourself."
        )


def _install_qemu() -> None:
    """From the host's own sources where they have it, else from backports."""
    policy = subprocess.run(
        ["apt-cache", "policy", "qemu-system-x86"], text=True, capture_output=True
    )
    candidate = re.search(r"Candidate: (?:\d+:)?(\d+)\.(\d+)", policy.stdout)
    if candidate and (int(candidate[1]), int(candidate[2])) >= tools.QEMU_MINIMUM:
        say("installing QEMU from this host's package sources")
        _apt_install(["apt-get"], ["qemu-system-x86"])
        return
    codename = apt.os_release().get("VERSION_CODENAME", "")
    backports = f"{codename}-backports"
    say(f"this host's own QEMU is too old; installing the one of {backports}")
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
        raise Trouble(
            f"apt-get could not install {', '.join(packages)}:\n{done.stdout.strip()[-2000:]}\n"
            "Repair what it names, or install these packages by hand."
        )
