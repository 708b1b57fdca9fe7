"""The program under test, built."""

import os
import subprocess
from pathlib import Path

from lab.places import REPOSITORY
from lab.trouble import Trouble


def build() -> Path:
    """As a user has it: with optimisation."""
    done = subprocess.run(["cargo", "build", "--release", "--package", "peerpath"], cwd=REPOSITORY)
    if done.returncode != 0:
        raise Trouble("peerpath could not be built; cargo said why.")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
    return target / "release" / "peerpath"
