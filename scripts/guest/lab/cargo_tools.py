"""Cargo subcommands without a Debian package: built once and kept in the cache."""

import os
import shutil
import subprocess
from pathlib import Path

from lab.lock import locked
from lab.locations import cache
from lab.progress import progress
from lab.errors import LabError

CARGO_DENY = "0.20.2"
# The tool runs for a second, so its build time matters more than its speed.
_BUILT_FAST = {
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
}


def cargo_deny() -> None:
    """Make `cargo deny` available: from PATH, otherwise built and linked into tools/bin of the cache."""
    if shutil.which("cargo-deny"):
        return
    home = cache() / "tools" / f"cargo-deny-{CARGO_DENY}"
    with locked("cargo-deny", "building cargo-deny"):
        if not (home / "bin" / "cargo-deny").exists():
            progress(f"building cargo-deny {CARGO_DENY}; this takes a few minutes, once")
            _install("cargo-deny", CARGO_DENY, home)
        link = cache() / "tools" / "bin" / "cargo-deny"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(home / "bin" / "cargo-deny")


def _install(name: str, version: str, home: Path) -> None:
    partial = home.with_name(f"partial-{home.name}")
    command = ["cargo", "install", "--quiet", "--locked", "--no-default-features", "--no-track"]
    command += ["--root", str(partial), f"{name}@{version}"]
    environment = os.environ | _BUILT_FAST
    # CARGO_TARGET_DIR, if set, would mix this build with the build of the workspace.
    environment.pop("CARGO_TARGET_DIR", None)
    done = subprocess.run(command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise LabError(
            f"Cannot build {name} {version}: cargo failed:\n{done.stderr.strip()[-1500:]}\n"
            f"Check that crates.io is reachable, or install {name} another way."
        )
    shutil.rmtree(home, ignore_errors=True)
    partial.rename(home)
