"""The scenarios: one TOML file per guest in scripts/guest/scenarios/."""

import re
import tomllib
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

from lab.locations import SCENARIOS
from lab.errors import EXIT_USAGE, LabError


PATHS = (
    "bus-address",
    "host-bridge-bypass",
    "host-bridge-translated",
    "refused",
    "host-memory",
    "staged",
)
# A source for `peerpath run --from`, with the function's name in place of its BDF.
_BAR = re.compile(r"(?P<function>[a-z][a-z0-9_]*)(?P<rest>:[0-5](@.+)?)")
_MEMORY = re.compile(r"(host|udmabuf|heap):\d+[KMG]?")


@dataclass(frozen=True)
class Function:
    """A PCI function that commands in the guest work with."""

    name: str
    bdf: str
    pci_id: str
    """vendor:device; the guest checks that the function at the BDF has this ID."""
    about: str
    device: str | None = None
    """None for a function that the guest creates: a virtual function."""
    object: str | None = None
    netdev: str | None = None
    drive_mib: int | None = None
    """Size of the raw image behind the drive NAME; the image holds random bytes."""
    rdma: str | None = None
    """The soft-RoCE device to create on this NIC."""

    def qemu_arguments(self, images: Path) -> list[str]:
        arguments = []
        if self.object:
            arguments += ["-object", self.object]
        if self.netdev:
            arguments += ["-netdev", self.netdev]
        if self.drive_mib:
            image = self.image(images)
            arguments += ["-drive", f"if=none,id={self.name},format=raw,file={image}"]
        if self.device:
            arguments += ["-device", self.device]
        return arguments

    def image(self, images: Path) -> Path:
        return images / f"{self.name}.img"


@dataclass(frozen=True)
class Pair:
    """A pair that `scripts/lab matrix` measures, and its expected result."""

    source: str
    """FUNCTION:BAR, optionally with ranges, or ordinary memory: host:SIZE."""
    to: str
    """A soft-RoCE device."""
    expect: str
    """Name of the expected path; for a blocked pair, the path without the blocker."""
    cause: str | None = None
    """Cause of the refusal."""
    blocked: str | None = None
    """Cause why peerpath does not try the pair."""
    asked: str | None = None
    """The path to request with --path."""

    @property
    def label(self) -> str:
        """Short name for tables: the function's name without its BAR, and the number of ranges."""
        memory, _, ranges = self.source.partition("@")
        count = f"@{len(ranges.split(','))}" if ranges else ""
        return f"{self.function or memory}{count}>{self.to}"

    @property
    def function(self) -> str | None:
        """Name of the function that exports the BAR; None for ordinary memory."""
        return None if _MEMORY.fullmatch(self.source) else _BAR.fullmatch(self.source)["function"]

    def as_json(self) -> dict:
        return {
            "from": self.source,
            "to": self.to,
            "asked": self.asked,
            "expect": self.expect,
            "cause": self.cause,
            "blocked": self.blocked,
        }


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
    """"single" avoids races inside QEMU."""
    allowed_warning: str | None = None
    """Part of the text of the kernel warning that this guest provokes on purpose."""
    prepare: tuple[str, ...] = ()
    """Commands that the guest runs before it checks its functions."""
    pairs: tuple[Pair, ...] = ()

    def qemu_arguments(self, images: Path) -> list[str]:
        """QEMU options that virtme-ng does not add."""
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
            "prepare": list(self.prepare),
            "pairs": [pair.as_json() for pair in self.pairs],
        }

    def function(self, name: str) -> Function | None:
        return next((function for function in self.functions if function.name == name), None)

    def source(self, pair: Pair) -> str:
        """The pair's source in the syntax of `peerpath run --from`."""
        if pair.function is None:
            return pair.source
        return self.function(pair.function).bdf + pair.source[len(pair.function) :]

    def importer(self, pair: Pair) -> Function:
        """The function under the pair's soft-RoCE device."""
        return next(function for function in self.functions if function.rdma == pair.to)


def names(folder: Path = SCENARIOS) -> list[str]:
    """The names of all scenarios, `default` first."""
    found = sorted(path.stem for path in folder.glob("*.toml"))
    return sorted(found, key=lambda name: name != "default")


def load(name: str, folder: Path = SCENARIOS) -> Scenario:
    known = names(folder)
    if name not in known:
        raise LabError(
            f"Unknown scenario {name!r}. Choose one of {', '.join(known)}; "
            "`scripts/lab list` describes them.",
            exit_code=EXIT_USAGE,
        )
    table = _table(name, folder)
    bridges = tuple(bridge["device"] for bridge in table.pop("bridge"))
    functions = tuple(Function(**function) for function in table.pop("function"))
    pairs = tuple(_pair(pair) for pair in table.pop("pair", []))
    for key in ("command_line", "prepare"):
        table[key] = tuple(table.get(key, ()))
    scenario = Scenario(name=name, bridges=bridges, functions=functions, pairs=pairs, **table)
    _check(scenario)
    return scenario


def _pair(table: dict) -> Pair:
    # Renamed because "from" is a keyword in Python.
    others = {key: value for key, value in table.items() if key != "from"}
    return Pair(source=table["from"], **others)


def _table(name: str, folder: Path) -> dict:
    """The keys of the file; the scenario that `like` names supplies missing keys."""
    path = folder / f"{name}.toml"
    table = tomllib.loads(path.read_text())
    like = table.pop("like", None)
    if like is None:
        return table
    base = _table(like, folder)
    # A scenario does not inherit the warning and the pairs of the scenario that `like` names.
    for key in ("allowed_warning", "pair"):
        base.pop(key, None)
    return base | table


def _check(scenario: Scenario) -> None:
    """Reject an invalid scenario before a guest boots."""
    taken: set[str] = set()
    for function in scenario.functions:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", function.name):
            raise LabError(f"Scenario {scenario.name}: {function.name!r} is not a valid function name.")
        if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", function.bdf):
            raise LabError(f"Scenario {scenario.name}: {function.bdf!r} is not a full BDF.")
        for key in (function.name, function.bdf, function.rdma):
            if key is not None and key in taken:
                raise LabError(f"Scenario {scenario.name}: {key} is used twice.")
            taken |= {key} if key else set()
    for field in fields(scenario):
        if getattr(scenario, field.name) == "":
            raise LabError(f"Scenario {scenario.name}: {field.name} is empty.")
    for pair in scenario.pairs:
        wrong = _wrong_with(pair, scenario)
        if wrong:
            raise LabError(f"Scenario {scenario.name}, pair {pair.source} to {pair.to}: {wrong}.")
    for asked in {pair.asked for pair in scenario.pairs}:
        declared = [(pair.source, pair.to) for pair in scenario.pairs if pair.asked == asked]
        # One run measures every source with every target, so each combination needs a pair.
        every = list(product(*(dict.fromkeys(side) for side in zip(*declared))))
        if sorted(declared) != sorted(every):
            odd = sorted(set(every) - set(declared)) or [max(declared, key=declared.count)]
            raise LabError(
                f"Scenario {scenario.name}: the pair {odd[0][0]} to {odd[0][1]} must be listed "
                "exactly once, because every source is measured with every target."
            )


def _wrong_with(pair: Pair, scenario: Scenario) -> str | None:
    bar = _BAR.fullmatch(pair.source)
    if not _MEMORY.fullmatch(pair.source) and not (bar and scenario.function(bar["function"])):
        return "the source is neither FUNCTION:BAR of this scenario nor memory, e.g. host:16M"
    if pair.to not in {function.rdma for function in scenario.functions}:
        return f"the scenario has no soft-RoCE device {pair.to}"
    if pair.expect not in PATHS:
        return f"{pair.expect!r} is not a path name"
    if (pair.cause is not None) != (pair.expect == "refused"):
        return "`refused` needs a cause, and no other path may have one"
    return None
