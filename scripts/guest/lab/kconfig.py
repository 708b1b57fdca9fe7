"""The kernel configuration: what we ask for, and whether we got it.

Kconfig drops an option whose dependencies are not met without a word, and a
guest without it fails much later and elsewhere. So what was asked for is
compared with what came out.

A line "A | B" asks for either: an option that another release calls otherwise.
"""

import re
import subprocess
from pathlib import Path

from lab.places import KERNEL
from lab.trouble import Trouble

_SET = re.compile(r"CONFIG_\w+=\S.*|# CONFIG_\w+ is not set")
_EITHER = " | "


def fragments(*, debug: bool, folder: Path = KERNEL / "config") -> list[Path]:
    """The files of options: the numbered ones always, the debug ones on demand."""
    files = sorted(folder.glob("[0-9]*.config"))
    return files + [folder / "debug.config"] if debug else files


def wanted(files: list[Path]) -> list[str]:
    """The option lines of FILES, without their comments."""
    lines = (line.strip() for path in files for line in path.read_text().splitlines())
    return [line for line in lines if _SET.fullmatch(line)]


def missing(options: list[str], config_text: str) -> list[str]:
    """The options that CONFIG_TEXT, a finished .config, does not have as asked."""
    have = set(config_text.splitlines())
    named = {match[1] for match in re.finditer(r"^(CONFIG_\w+)=", config_text, re.MULTILINE)}

    def met(option: str) -> bool:
        # An option that is off may also be absent altogether.
        return option in have or (option.startswith("# ") and option.split()[1] not in named)

    return [asked for asked in options if not any(map(met, asked.split(_EITHER)))]


def configure(tree: Path, files: list[Path]) -> str:
    """Configure TREE with FILES over "no" for everything else; the .config."""
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
        raise Trouble(f"Configuring the kernel failed:\n{done.stdout.strip()[-2000:]}")
    config_text = (tree / ".config").read_text()
    dropped = missing(options, config_text)
    if dropped:
        raise Trouble(
            "Kconfig dropped options that the lab needs, because something they depend on is "
            "not set or no longer exists in this kernel:\n  "
            + "\n  ".join(dropped)
            + "\nAdd what they depend on under scripts/guest/kernel/, or drop the option there."
        )
    return config_text
