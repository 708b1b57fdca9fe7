"""The guests, as data: one TOML file each in scripts/guest/scenarios/."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from lab.places import SCENARIOS
from lab.trouble import EXIT_USAGE, Trouble


@dataclass(frozen=True)
class Function:
    """A PCI function that commands in the guest work with."""

    name: str
    bdf: str
    pci_id: str
    """vendor:device; the guest checks that this is what sits at the BDF."""
    about: str
    device: str
    object: str | None = None
    netdev: str | None = None
    drive_mib: int | None = None
    """Size of the empty raw image behind the drive called NAME."""
    rdma: str | None = None
    """The soft-RoCE device to put over this NIC."""

    def qemu_arguments(self, images: Path) -> list[str]:
        arguments = []
        if self.object:
            arguments += ["-object", self.object]
        if self.netdev:
            arguments += ["-netdev", self.netdev]
        if self.drive_mib:
            image = self.image(images)
            arguments += ["-drive", f"if=none,id={self.name},format=raw,file={image}"]
        return arguments + ["-device", self.device]

    def image(self, images: Path) -> Path:
        return images / f"{self.name}.img"


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    shows: str
    cpu: str
    machine: str
    memory_mib: int
    command_line: tuple[str, ...]
    bridges: tuple[str, ...]
    functions: tuple[Function, ...]
    cpus: int = 2
    tcg_thread: str = "multi"
    """"single" where QEMU's own races would be in the way."""
    allowed_warning: str | None = None
    """A part of the text of the one kernel warning this guest provokes."""

    def qemu_arguments(self, images: Path) -> list[str]:
        """What QEMU needs beside what virtme-ng gives it."""
        arguments = ["-M", self.machine, "-cpu", self.cpu]
        for device in self.bridges:
            arguments += ["-device", device]
        for function in self.functions:
            arguments += function.qemu_arguments(images)
        return arguments

    def as_json(self) -> dict:
        """For `scripts/lab list --json`."""
        return {
            "name": self.name,
            "about": self.about,
            "shows": self.shows,
            "cpu": self.cpu,
            "machine": self.machine,
            "command_line": " ".join(self.command_line),
            "bridges": list(self.bridges),
            "functions": [
                {
                    key: getattr(function, key)
                    for key in ("name", "bdf", "pci_id", "about", "rdma")
                }
                for function in self.functions
            ],
            "allowed_warning": self.allowed_warning,
        }


def names(folder: Path = SCENARIOS) -> list[str]:
    """Every scenario, the default one first."""
    found = sorted(path.stem for path in folder.glob("*.toml"))
    return sorted(found, key=lambda name: name != "default")


def load(name: str, folder: Path = SCENARIOS) -> Scenario:
    known = names(folder)
    if name not in known:
        raise Trouble(
            f"There is no scenario {name!r}. The lab knows {', '.join(known)}; "
            "`scripts/lab list` tells what they are.",
            exit_code=EXIT_USAGE,
        )
    table = _table(name, folder)
    bridges = tuple(bridge["device"] for bridge in table.pop("bridge"))
    functions = tuple(Function(**function) for function in table.pop("function"))
    table["command_line"] = tuple(table["command_line"])
    scenario = Scenario(name=name, bridges=bridges, functions=functions, **table)
    _check(scenario)
    return scenario


def _table(name: str, folder: Path) -> dict:
    """The file's keys over those of the scenario it is like, if any."""
    path = folder / f"{name}.toml"
    table = tomllib.loads(path.read_text())
    like = table.pop("like", None)
    if like is None:
        return table
    base = _table(like, folder)
    # What a scenario does with its warning or shows is its own affair.
    base.pop("allowed_warning", None)
    return base | table


def _check(scenario: Scenario) -> None:
    """Mistakes in a scenario should be seen here, not as a guest that differs."""
    taken: set[str] = set()
    for function in scenario.functions:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", function.name):
            raise Trouble(f"Scenario {scenario.name}: {function.name!r} is no name for a function.")
        if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", function.bdf):
            raise Trouble(f"Scenario {scenario.name}: {function.bdf!r} is no full BDF.")
        for key in (function.name, function.bdf, function.rdma):
            if key is not None and key in taken:
                raise Trouble(f"Scenario {scenario.name}: {key} stands twice.")
            taken |= {key} if key else set()
    for field in fields(scenario):
        if getattr(scenario, field.name) == "":
            raise Trouble(f"Scenario {scenario.name}: {field.name} is empty.")
