"""Where things are: the repository, and the cache that outlives a clone."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
GUEST = REPOSITORY / "scripts" / "guest"
KERNEL = GUEST / "kernel"
SCENARIOS = GUEST / "scenarios"


def cache() -> Path:
    """Built kernels, fetched sources and tools: everything that is slow to make."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "peerpath"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, text: str) -> None:
    """Others see the file as it was or as it will be, never half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.rename(path)
