"""A private apt: its own source list, index files and downloads.

The host's apt configuration is never changed. The private apt inherits the
site's settings: the mirror, the proxy, /etc/apt/apt.conf.d (which may accept
expired index files, for mirrors that are frozen snapshots), and the installed
archive keyring.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.locations import cache
from lab.errors import LabError

_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


def available() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release; empty if the file does not exist."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def mirror(etc_apt: Path = Path("/etc/apt"), codename: str | None = None) -> str:
    """The Debian mirror that this host uses, otherwise deb.debian.org."""
    codename = codename or os_release().get("VERSION_CODENAME", "")
    for uri, suites in _host_sources(etc_apt):
        if codename and codename in suites:
            return uri.rstrip("/")
    return _DEFAULT_MIRROR


def _host_sources(etc_apt: Path):
    """(URI, suites) of every package source, in both formats of apt."""
    parts = etc_apt / "sources.list.d"
    for path in [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from _one_line_sources(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822_sources(path.read_text())


def _one_line_sources(text: str):
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            yield match[1], [match[2]]


def _deb822_sources(text: str):
    for stanza in re.split(r"\n\s*\n", text):
        fields, key = {}, ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = fields.get(key, "") + " " + line.strip()
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        for uri in fields.get("uris", "").split():
            yield uri, fields.get("suites", "").split()


def _keyring() -> Path:
    for path in _KEYRINGS:
        if path.exists():
            return path
    raise LabError(
        "Cannot verify downloads: Debian's archive keyring is not installed. "
        "Install the package debian-archive-keyring."
    )


@dataclass(frozen=True)
class Package:
    name: str
    version: str


class PrivateApt:
    """apt-get and apt-cache with SUITES as the only sources."""

    def __init__(self, suites: list[str], *, sees_installed: bool = False):
        """SEES_INSTALLED: read the host's package status; needed to install packages."""
        self._home = cache() / "apt" / "+".join(suites)
        for name in ("lists/partial", "cache/archives/partial"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        site, keyring = mirror(), _keyring()
        (self._home / "sources.list").write_text(
            "".join(f"deb [signed-by={keyring}] {site} {suite} main\n" for suite in suites)
        )
        nothing_installed = self._home / "status"
        nothing_installed.touch()
        status = Path("/var/lib/dpkg/status") if sees_installed else nothing_installed
        self._options = [
            f"Dir::Etc::sourcelist={self._home}/sources.list",
            "Dir::Etc::sourceparts=-",
            "Dir::Etc::preferences=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            f"Dir::State::lists={self._home}/lists",
            f"Dir::State::status={status}",
            f"Dir::Cache={self._home}/cache",
            "Acquire::Languages=none",
            # Hosts may be configured to fetch further indexes; nothing here reads them.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled=false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
            # The cache is in a home folder, where apt's sandbox user cannot write.
            "APT::Sandbox::User=root",
            # The host's hooks do not apply to this private index.
            "APT::Update::Post-Invoke-Success::=",
        ]

    def command(self, program: str, *arguments: str) -> list[str]:
        options = [word for option in self._options for word in ("-o", option)]
        return [program, *options, *arguments]

    def update(self) -> None:
        self._run("apt-get", "-q", "update", "--error-on=any")

    def newest(self, prefix: str) -> list[Package]:
        """The candidate version of every package whose name starts with PREFIX."""
        names = self._run("apt-cache", "pkgnames", prefix).split()
        packages = []
        for name in names:
            shown = self._run("apt-cache", "show", "--no-all-versions", name)
            version = re.search(r"^Version: (.+)$", shown, re.MULTILINE)
            if version:
                packages.append(Package(name, version[1]))
        return packages

    def download(self, package: Package, folder: Path) -> Path:
        """Download and verify one package; returns the path of the .deb."""
        folder.mkdir(parents=True, exist_ok=True)
        self._run("apt-get", "-q", "download", f"{package.name}={package.version}", cwd=folder)
        version = package.version.replace(":", "%3a")
        (deb,) = folder.glob(f"{package.name}_{version}_*.deb")
        return deb

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            self.command(program, *arguments), cwd=cwd, text=True, capture_output=True
        )
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise LabError(
                f"Cannot run {program} {' '.join(arguments)} with the mirror {mirror()}:\n{tail}\n"
                "Check the network, and the mirror and proxy of this host's apt."
            )
        return done.stdout
