"""Our changes to the kernel: added files, and a patch that calls them.

A change is a folder beside the kernel configuration:

    NAME/files/       added files, copied over the kernel tree
    NAME/hooks.patch  the changed lines of existing files (patch -p1)
    NAME/config       kernel options that the change needs
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.locations import KERNEL
from lab.errors import LabError

# Tolerates context that changed slightly between releases. Any reject is an
# error, so a patch never applies in part.
_FUZZ = "--fuzz=2"
# Folder in a tree that records the changes made to it.
_NOTES = ".peerpath"


@dataclass(frozen=True)
class Change:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def patch(self) -> Path:
        return self.folder / "hooks.patch"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def inputs(self) -> list[Path]:
        """The files that end up in the built kernel."""
        patch = [self.patch] if self.patch.is_file() else []
        return patch + [self.files / path for path in self.added()]

    def added(self) -> list[Path]:
        paths = sorted(path for path in self.files.rglob("*") if path.is_file())
        return [path.relative_to(self.files) for path in paths]

    def patched(self) -> list[Path]:
        if not self.patch.is_file():
            return []
        text = self.patch.read_text()
        return [Path(name) for name in re.findall(r"^\+\+\+ [^/\s]+/(\S+)", text, re.MULTILINE)]

    def apply(self, tree: Path) -> None:
        if self.patch.is_file():
            self._apply_patch(tree)
        for path in self.added():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.files / path, target)

    def _apply_patch(self, tree: Path) -> None:
        command = ["patch", "-p1", _FUZZ, "--forward", "--batch", "--no-backup-if-mismatch"]
        done = subprocess.run(
            [*command, "-i", str(self.patch)],
            cwd=tree,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            raise LabError(
                f"Cannot patch the kernel: the change {self.name} does not apply to this source:\n"
                f"{done.stdout.strip()}\n"
                f"Adapt {self.patch} to the kernel version."
            )


def all_changes(kernel: Path = KERNEL) -> list[Change]:
    """The changes, in the order in which they are applied; may be empty."""
    folders = sorted(path for path in kernel.iterdir() if path.is_dir())
    return [Change(path) for path in folders if path.name != "config"]


def apply_all(tree: Path, changes: list[Change]) -> None:
    """Turn TREE into the pristine kernel plus CHANGES.

    The tree may hold an earlier version of the changes. Files whose content
    stays the same are not written, so an incremental build compiles only what
    differs.
    """
    notes = tree / _NOTES
    pristine, scratch, touched_list = notes / "pristine", notes / "scratch", notes / "touched"
    before = set(touched_list.read_text().splitlines()) if touched_list.exists() else set()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    now: set[str] = set()
    for change in changes:
        for path in change.patched():
            if str(path) not in before and not (pristine / path).exists():
                _copy(tree / path, pristine / path, change)
            if not (scratch / path).exists():
                _copy(pristine / path, scratch / path, change)
        for path in change.added():
            if str(path) not in before and (tree / path).exists():
                raise LabError(
                    f"Cannot apply the kernel change {change.name}: it adds {path}, which this "
                    "kernel already has. Rename the added file or remove the change."
                )
        change.apply(scratch)
        now |= {str(path) for path in change.patched() + change.added()}
    # Record the list first, so that after an interruption the next call checks too many
    # files rather than too few.
    touched_list.write_text("\n".join(sorted(before | now)))
    for name in sorted(before | now):
        _set_content(tree / name, scratch / name if name in now else pristine / name)
    touched_list.write_text("\n".join(sorted(now)))


def _copy(source: Path, target: Path, change: Change) -> None:
    if not source.is_file():
        raise LabError(
            f"Cannot apply the kernel change {change.name}: it patches {target.name}, which this "
            f"kernel does not have. Adapt {change.patch} to the kernel version."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _set_content(path: Path, wanted: Path) -> None:
    """Give PATH the content of WANTED; remove PATH if WANTED does not exist."""
    if not wanted.exists():
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != wanted.read_bytes():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wanted, path)
