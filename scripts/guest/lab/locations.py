"""Paths of the repository, and of the cache, which all checkouts share."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
GUEST = REPOSITORY / "scripts" / "guest"
KERNEL = GUEST / "kernel"
SCENARIOS = GUEST / "scenarios"


def cache() -> Path:
    """The cache: built kernels, downloaded sources and tools."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "peerpath"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.rename(path)
