"""Finds the kernel source: Debian's package, or the user's tree."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import apt
from lab.lock import locked
from lab.locations import cache, write_whole
from lab.progress import progress
from lab.errors import LabError

# Oldest release that our changes apply to; its VFIO can export a dma-buf.
WANTED = (7, 2)
# Debian's suites with that release; a stable release has only an older kernel.
SUITES = ("trixie-backports", "testing")
_OVERRIDE = "PEERPATH_KERNEL_SOURCE"
# Generated register tables: a third of the tree, without any Kconfig file.
_NOT_NEEDED = "*/drivers/gpu/drm/amd/include/*"


@dataclass(frozen=True)
class Source:
    """A kernel source that can be unpacked, with its identity."""

    identity: str
    """Part of the cache key: the same identity always unpacks to the same tree."""
    debian_version: str | None
    path: Path

    def unpack(self, into: Path, *, only: tuple[str, ...] = ()) -> None:
        """Unpack or copy the tree into the empty folder INTO; with ONLY, just these files and folders, if they exist."""
        into.mkdir(parents=True, exist_ok=True)
        if only:
            self._unpack_some(into, only)
        elif self.path.is_dir():
            exclude = shutil.ignore_patterns(".git")
            shutil.copytree(self.path, into, symlinks=True, dirs_exist_ok=True, ignore=exclude)
        elif self.path.suffix == ".deb":
            with _tarball_in_package(self.path) as tarball:
                _untar(["-J", f"--exclude={_NOT_NEEDED}"], into, tarball)
        else:
            with open(self.path, "rb") as tarball:
                _untar(["-a", "-f", str(self.path)], into, tarball)

    def _unpack_some(self, into: Path, only: tuple[str, ...]) -> None:
        if self.path.is_dir():
            for name in only:
                _copy(self.path / name, into / name)
        elif self.path.suffix == ".deb":
            with _tarball_in_package(self.path) as tarball:
                _untar_some(["-J"], into, tarball, only)
        else:
            _untar_some(["-a", "-f", str(self.path)], into, None, only)


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to)
    elif path.exists():
        shutil.copyfile(path, to)


def _untar_some(arguments: list[str], into: Path, stream, only: tuple[str, ...]) -> None:
    """Like _untar, for some files. tar fails on a pattern without a match, and the files differ between kernels."""
    patterns = [f"*/{name}" for name in only]
    done = subprocess.run(
        ["tar", "-x", "--strip-components=1", "--no-wildcards-match-slash", "--wildcards", "-C", str(into)]
        + arguments
        + patterns,
        stdin=stream,
        stderr=subprocess.PIPE,
        text=True,
    )
    unexpected = [line for line in done.stderr.splitlines() if "Not found in archive" not in line]
    if done.returncode != 0 and any("Exiting with failure" not in line for line in unexpected):
        raise LabError(f"Cannot unpack the kernel source into {into}: {' '.join(unexpected)[-300:]}.")


def find(*, look_for_newer: bool = False) -> Source:
    """The source to build: the user's, otherwise one downloaded earlier, otherwise Debian's."""
    override = os.environ.get(_OVERRIDE)
    if override:
        return _users_source(Path(override))
    return _debian(look_for_newer=look_for_newer)


def debian_sources() -> list[Source]:
    """The newest package of every kernel series in the archive from WANTED on.

    If the archive cannot be reached: the packages downloaded earlier.
    """
    newest: dict[str, Source] = {}
    try:
        _need_apt()
        for suite in SUITES:
            for package, private_apt in _offers(suite):
                if package.name not in newest:
                    newest[package.name] = _fetch(private_apt, package)
    except LabError as error:
        newest |= _fetched_before()
        if not newest:
            raise
        progress(f"cannot reach the archive; using the sources downloaded earlier ({error})")
    return [newest[name] for name in sorted(newest, key=_series)]


def _fetched_before() -> dict[str, Source]:
    sources = {}
    for deb in sorted((cache() / "source").glob("linux-source-*.deb")):
        name, version, _ = deb.name.split("_")
        sources[name] = _source_of(apt.Package(name, version.replace("%3a", ":")), deb)
    return sources


def _debian(*, look_for_newer: bool) -> Source:
    chosen = cache() / "source" / "chosen.json"
    if not look_for_newer and (source := _chosen_before(chosen)):
        return source
    with locked("source", "downloading the kernel source"):
        if not look_for_newer and (source := _chosen_before(chosen)):
            return source
        _need_apt()
        progress(f"looking for a kernel source package in {', '.join(SUITES)} of {apt.mirror()}")
        for suite in SUITES:
            offers = sorted(_offers(suite), key=lambda offer: _series(offer[0].name))
            if not offers:
                continue
            exact = [offer for offer in offers if _series(offer[0].name) == WANTED]
            package, private_apt = exact[0] if exact else offers[-1]
            source = _fetch(private_apt, package)
            record = {"name": package.name, "version": package.version, "deb": str(source.path)}
            write_whole(chosen, json.dumps(record) + "\n")
            return source
    raise LabError(
        f"Cannot find linux-source-{WANTED[0]}.{WANTED[1]} or newer in {' or '.join(SUITES)} of "
        f"{apt.mirror()}. Use a mirror that has these suites, or set {_OVERRIDE} to a "
        "kernel source tree."
    )


def _chosen_before(chosen: Path) -> Source | None:
    if not chosen.exists():
        return None
    record = json.loads(chosen.read_text())
    deb = Path(record["deb"])
    return _source_of(apt.Package(record["name"], record["version"]), deb) if deb.exists() else None


def _offers(suite: str):
    """(package, apt) for every kernel source in SUITE from WANTED on."""
    private_apt = apt.PrivateApt([suite])
    private_apt.update()
    for package in private_apt.newest("linux-source-"):
        series = _series(package.name)
        if series is not None and series >= WANTED:
            yield package, private_apt


def _series(package_name: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"linux-source-(\d+)\.(\d+)", package_name)
    return (int(match[1]), int(match[2])) if match else None


def _fetch(private_apt: apt.PrivateApt, package: apt.Package) -> Source:
    folder = cache() / "source"
    present = list(folder.glob(f"{package.name}_{package.version}_*.deb"))
    if not present:
        progress(f"downloading {package.name} {package.version} (about 160 MB)")
        # apt writes the file in place, so rename it only when it is complete.
        partial = folder / f"partial-{os.getpid()}"
        try:
            deb = private_apt.download(package, partial)
            present = [deb.rename(folder / deb.name)]
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _source_of(package, present[0])


def _source_of(package: apt.Package, deb: Path) -> Source:
    return Source(f"{package.name} {package.version}", package.version, deb)


def _need_apt() -> None:
    if not apt.available():
        raise LabError(
            "Cannot download the kernel source from Debian's archive: this machine has no apt. "
            f"Unpack Linux {WANTED[0]}.{WANTED[1]} or newer and set {_OVERRIDE} to its folder."
        )


def _users_source(path: Path) -> Source:
    if not path.exists():
        raise LabError(
            f"Cannot read {_OVERRIDE}={path}: it does not exist. Set it to a kernel source tree or "
            "tarball."
        )
    path = path.resolve()
    if path.is_dir() and not (path / "Kbuild").exists():
        raise LabError(
            f"Cannot build {_OVERRIDE}={path}: it is not a kernel source tree, it has no Kbuild "
            "file. Set it to a kernel source tree or tarball."
        )
    digest = hashlib.sha256()
    for entry in [path] if path.is_file() else _files_below(path):
        status = entry.lstat()
        digest.update(f"{entry} {status.st_size} {status.st_mtime_ns}\n".encode())
    return Source(f"{path} {digest.hexdigest()[:16]}", None, path)


def _files_below(path: Path):
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(files):
            yield Path(folder) / name


@contextmanager
def _tarball_in_package(deb: Path):
    """The source tarball inside a linux-source package, as a stream."""
    package = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    tarball = subprocess.Popen(
        ["tar", "-x", "-O", "--wildcards", "./usr/src/linux-source-*.tar.xz"],
        stdin=package.stdout,
        stdout=subprocess.PIPE,
    )
    package.stdout.close()
    try:
        yield tarball.stdout
    finally:
        tarball.stdout.close()
        tarball.wait()
        package.wait()


def _untar(arguments: list[str], into: Path, stream) -> None:
    done = subprocess.run(
        ["tar", "-x", "--strip-components=1", "-C", str(into), *arguments],
        stdin=stream,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise LabError(
            f"Cannot unpack the kernel source into {into}: {done.stderr.strip()[-300:]}. "
            "Check the free disk space (the build needs 3 GB)."
        )
