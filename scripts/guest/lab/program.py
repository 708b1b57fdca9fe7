"""Builds the program under test."""

import os
import subprocess
from pathlib import Path

from lab.locations import REPOSITORY
from lab.errors import LabError


def build() -> Path:
    """Build peerpath in the release profile; returns the path of the program."""
    done = subprocess.run(["cargo", "build", "--release", "--package", "peerpath"], cwd=REPOSITORY)
    if done.returncode != 0:
        raise LabError("Cannot build peerpath: cargo failed. Fix the error that cargo reports above.")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
    return target / "release" / "peerpath"
