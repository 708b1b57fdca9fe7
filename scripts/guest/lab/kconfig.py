"""Configures the kernel and checks that every requested option is set.

Kconfig silently drops an option whose dependencies are not met, and a guest
without the option fails much later, elsewhere. This module therefore compares
the requested options with the finished .config.

A line "A | B" requests either option, for options with another name in another release.
"""

import re
import subprocess
from pathlib import Path

from lab.locations import KERNEL
from lab.errors import LabError

_SET = re.compile(r"CONFIG_\w+=\S.*|# CONFIG_\w+ is not set")
_EITHER = " | "


def fragments(*, debug: bool, folder: Path = KERNEL / "config") -> list[Path]:
    """The files with options: all numbered ones, and debug.config if DEBUG is set."""
    files = sorted(folder.glob("[0-9]*.config"))
    return files + [folder / "debug.config"] if debug else files


def wanted(files: list[Path]) -> list[str]:
    """The option lines of FILES, without their comments."""
    lines = (line.strip() for path in files for line in path.read_text().splitlines())
    return [line for line in lines if _SET.fullmatch(line)]


def missing(options: list[str], config_text: str) -> list[str]:
    """The requested options that CONFIG_TEXT, a finished .config, does not set."""
    have = set(config_text.splitlines())
    named = {match[1] for match in re.finditer(r"^(CONFIG_\w+)=", config_text, re.MULTILINE)}

    def met(option: str) -> bool:
        # An option that is off may be absent instead.
        return option in have or (option.startswith("# ") and option.split()[1] not in named)

    return [asked for asked in options if not any(map(met, asked.split(_EITHER)))]


def configure(tree: Path, files: list[Path]) -> str:
    """Configure TREE with FILES and "no" for every other option; returns the .config."""
    options = wanted(files)
    asked = tree / "peerpath.config"
    asked.write_text("\n".join(options).replace(_EITHER, "\n") + "\n")
    done = subprocess.run(
        ["make", "-s", "ARCH=x86_64", f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"],
        cwd=tree,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        raise LabError(
            f"Cannot configure the kernel: make failed:\n{done.stdout.strip()[-2000:]}"
        )
    config_text = (tree / ".config").read_text()
    dropped = missing(options, config_text)
    if dropped:
        raise LabError(
            "Cannot configure the kernel: Kconfig dropped options that the lab needs, because a "
            "dependency of theirs is not set or no longer exists in this kernel:\n  "
            + "\n  ".join(dropped)
            + "\nAdd their dependencies in scripts/guest/kernel/, or drop the options there."
        )
    return config_text
