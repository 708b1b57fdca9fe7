"""Builds the guest's kernel once per set of inputs."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import kconfig, tools
from lab.changes import Change, all_changes, apply_all
from lab.lock import locked
from lab.locations import KERNEL, cache
from lab.progress import progress
from lab.source import Source, debian_sources, find
from lab.errors import LabError

_PROGRESS_EVERY_S = 20
# Approximate number of compiled files (without and with the debug options), for the progress line.
_TYPICAL_FILES = {False: 1700, True: 1750}


# Environment variable for work on the kernel changes: 1 keeps the build trees (2 GB each), so that
# the next build takes a minute.
_KEEP_BUILD = "PEERPATH_LAB_KEEP_BUILD"


# Environment variable: path of a bzImage to boot instead of building one.
_OWN_IMAGE = "PEERPATH_LAB_IMAGE"


@dataclass(frozen=True)
class Kernel:
    image: Path
    version: str
    """Version that `uname -r` prints in the guest."""
    debian_version: str | None


def kernel(*, debug: bool, look_for_newer: bool = False) -> Kernel:
    """The kernel from the cache; builds it first if needed."""
    own = os.environ.get(_OWN_IMAGE)
    if own:
        return Kernel(Path(own).resolve(), _version_in(Path(own)), None)
    source = find(look_for_newer=look_for_newer)
    changes = all_changes()
    inputs = _inputs(source, changes, debug=debug)
    key = _digest(inputs)
    folder = cache() / f"kernel-{key}"
    built = folder / "kernel.json"
    if not built.exists():
        with locked(f"kernel-{key}", "building this kernel"):
            if not built.exists():
                _build(source, changes, inputs, folder, debug=debug)
    record = json.loads(built.read_text())
    return Kernel(folder / "bzImage", record["version"], record["debian_version"])


def _version_in(image: Path) -> str:
    """The version in the set-up header of a bzImage."""
    try:
        data = image.read_bytes()[: 64 << 10]
    except OSError as error:
        raise LabError(f"Cannot read {_OWN_IMAGE}={image}: {error.strerror}.") from error
    if data[0x202:0x206] != b"HdrS":
        raise LabError(
            f"Cannot boot {_OWN_IMAGE}={image}: it is not an x86 bzImage. Set the variable to a "
            "bzImage, or unset it."
        )
    at = int.from_bytes(data[0x20E:0x210], "little") + 0x200
    return data[at : data.index(b"\0", at)].split()[0].decode()


def check_changes() -> list[tuple[str, str | None]]:
    """(source, error or None) for every kernel series in the archive."""
    with locked("source", "downloading the kernel source"):
        sources = debian_sources()
    return [(source.identity, _misfit(source)) for source in sources]


def _misfit(source: Source) -> str | None:
    """The reason why our changes or options do not fit SOURCE, or None. Success is cached."""
    changes = all_changes()
    fits = cache() / f"fits-{_digest(_inputs(source, changes, debug=False))}"
    if fits.exists():
        return None
    progress(f"applying our changes to {source.identity}")
    tree = cache() / f"check-{os.getpid()}"
    try:
        source.unpack(tree)
        apply_all(tree, changes)
        kconfig.configure(tree, _config_files(changes, debug=False))
    except LabError as error:
        return str(error)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    fits.touch()
    return None


def _config_files(changes: list[Change], *, debug: bool) -> list[Path]:
    return kconfig.fragments(debug=debug) + [c.config for c in changes if c.config.is_file()]


def _inputs(source: Source, changes: list[Change], *, debug: bool) -> dict:
    """All inputs that determine the built kernel, by name."""
    files = {
        str(path.relative_to(KERNEL)): hashlib.sha256(path.read_bytes()).hexdigest()
        for change in changes
        for path in change.inputs()
    }
    return {
        "source": source.identity,
        "compiler": tools.compiler_version(),
        "options": kconfig.wanted(_config_files(changes, debug=debug)),
        "files": files,
    }


def _digest(inputs: dict) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _build(
    source: Source, changes: list[Change], inputs: dict, folder: Path, *, debug: bool
) -> None:
    tools.need(tools.KERNEL_BUILD, "build the guest's kernel")
    log = folder.with_name(f"{folder.name}.log")
    started_s = time.monotonic()
    flavour = "debug kernel" if debug else "kernel"
    progress(f"building the guest's {flavour} from {source.identity}: about 10 minutes on 2 cores, once")
    with _tree(source, folder, debug=debug) as tree:
        apply_all(tree, changes)
        config_text = kconfig.configure(tree, _config_files(changes, debug=debug))
        _make(tree, log, debug=debug)
        _keep(tree, source, inputs, config_text, folder)
    log.unlink()
    progress(f"built the guest's {flavour} in {(time.monotonic() - started_s) / 60:.1f} minutes")


@contextmanager
def _tree(source: Source, folder: Path, *, debug: bool):
    """The unpacked source; removed after the build unless the caller keeps it."""
    if os.environ.get(_KEEP_BUILD) != "1":
        tree = folder.with_name(f"build-{folder.name}")
        shutil.rmtree(tree, ignore_errors=True)
        try:
            source.unpack(tree)
            yield tree
        finally:
            shutil.rmtree(tree, ignore_errors=True)
        return
    identity = hashlib.sha256(source.identity.encode()).hexdigest()[:8]
    tree = cache() / f"build-{identity}{'-debug' if debug else ''}"
    unpacked = cache() / f"{tree.name}.unpacked"
    with locked(tree.name, "building in this kernel tree"):
        if not unpacked.exists():
            shutil.rmtree(tree, ignore_errors=True)
            source.unpack(tree)
            unpacked.touch()
        yield tree


def _make(tree: Path, log: Path, *, debug: bool) -> None:
    # Fixed time stamp, user and host: the same inputs give the same image.
    environment = os.environ | {
        "KBUILD_BUILD_TIMESTAMP": "@0",
        "KBUILD_BUILD_USER": "peerpath",
        "KBUILD_BUILD_HOST": "lab",
    }
    with open(log, "w") as output:
        make = subprocess.Popen(
            ["make", f"-j{os.cpu_count()}", "ARCH=x86_64", "LOCALVERSION=", "bzImage"],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    make.wait(_PROGRESS_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    done = len(re.findall(r"^  CC ", log.read_text(), re.MULTILINE))
                    progress(f"compiled {done} of about {_TYPICAL_FILES[debug]} files")
        finally:
            # Interrupted: stop all compilers before the tree is removed.
            if make.poll() is None:
                make.terminate()
                make.wait()
    if make.returncode != 0:
        errors = [line for line in log.read_text().splitlines() if "rror" in line][:20]
        raise LabError(
            "Cannot build the guest's kernel: make failed:\n  "
            + "\n  ".join(errors)
            + f"\nThe full log is {log}."
        )


def _keep(
    tree: Path, source: Source, inputs: dict, config_text: str, folder: Path
) -> None:
    """Copy the results of the build to FOLDER, which appears atomically."""
    version = (tree / "include/config/kernel.release").read_text().strip()
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copyfile(tree / "arch/x86/boot/bzImage", partial / "bzImage")
    shutil.copyfile(tree / "System.map", partial / "System.map")
    (partial / "config").write_text(config_text)
    record = {"version": version, "debian_version": source.debian_version, "inputs": inputs}
    (partial / "kernel.json").write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
