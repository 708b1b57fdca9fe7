"""Compares peerpath's tables of kernel rules with kernel sources.

`cargo run -p peerpath-paths --example kernel_rules` prints the tables. The functions
below read the same facts in a kernel source, from a few files.
"""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.locations import REPOSITORY
from lab.lock import locked
from lab.progress import progress
from lab.source import Source, debian_sources, find

_P2PDMA = "drivers/pci/p2pdma.c"
_PCI_IDS = "include/linux/pci_ids.h"
_SWIOTLB = "kernel/dma/swiotlb.c"
_DIRECT = ("kernel/dma/direct.c", "kernel/dma/direct.h")
_DMA_DIRECT = "include/linux/dma-direct.h"
_MAPPING = "drivers/dma-buf/dma-buf-mapping.c"
_VFIO_KCONFIG = "drivers/vfio/Kconfig"
_EVENTS = "include/trace/events/dma_buf.h"
_RDMA = "drivers/infiniband/hw"
_MAKEFILE = "Makefile"
_FILES = (
    *(_P2PDMA, _PCI_IDS, _SWIOTLB, *_DIRECT, _DMA_DIRECT, _MAPPING, _VFIO_KCONFIG, _EVENTS, _RDMA),
    _MAKEFILE,
)


class Unreadable(Exception):
    """A fact cannot be found in the source: its code changed."""


@dataclass(frozen=True)
class Tree:
    """The files of a kernel source that the facts need."""

    folder: Path

    def text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(errors="replace")
        except OSError as error:
            raise Unreadable(f"{name}: {error.strerror}") from error

    def version(self) -> tuple[int, int]:
        text = self.text(_MAKEFILE)
        major = re.search(r"^VERSION\s*=\s*(\d+)", text, re.MULTILINE)
        minor = re.search(r"^PATCHLEVEL\s*=\s*(\d+)", text, re.MULTILINE)
        if not major or not minor:
            raise Unreadable(f"{_MAKEFILE}: no version")
        return int(major[1]), int(minor[1])


def listed_devices(tree: Tree) -> set[tuple[int, int | None, bool]]:
    """The allowlist: vendor, device (None: every device), and restriction to one host bridge."""
    body = re.search(r"pci_p2pdma_whitelist\[\]\s*=\s*\{(.*?)\n\};", tree.text(_P2PDMA), re.DOTALL)
    if not body:
        raise Unreadable(f"{_P2PDMA}: no pci_p2pdma_whitelist")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", body[1], flags=re.DOTALL)
    ids = tree.text(_PCI_IDS)
    rows = set()
    for row in re.findall(r"\{([^{}]*)\}", text):
        if not row.strip():
            continue
        fields = [field.strip() for field in row.split(",")]
        if len(fields) != 3 or fields[2] not in ("0", "REQ_SAME_HOST_BRIDGE"):
            raise Unreadable(f"{_P2PDMA}: unknown form of the row {{{row}}}")
        device = None if fields[1] == "PCI_ANY_ID" else _number(fields[1], ids)
        rows.add((_number(fields[0], ids), device, fields[2] != "0"))
    return rows


def _number(text: str, definitions: str) -> int:
    """A number, or the value of a macro."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", text):
        return int(text, 0)
    value = re.search(rf"^#define\s+{re.escape(text)}\s+(0x[0-9a-fA-F]+|\d+)\b", definitions, re.MULTILINE)
    if not value:
        raise Unreadable(f"{_PCI_IDS}: no {text}")
    return int(value[1], 0)


def trusts_zen(tree: Tree) -> bool:
    body = _function(tree.text(_P2PDMA), "cpu_supports_p2pdma", _P2PDMA)
    return bool(re.search(r"X86_VENDOR_AMD\s*&&\s*c->x86\s*>=\s*0x17\b", body))


def redirect_bits(tree: Tree) -> set[str]:
    """The ACS bits that count as a redirect."""
    body = _function(tree.text(_P2PDMA), "pci_bridge_has_acs_redir", _P2PDMA)
    return set(re.findall(r"\bPCI_ACS_(?!CTRL\b)\w+", body))


def swiotlb_words(tree: Tree) -> str:
    body = _function(tree.text(_SWIOTLB), "setup_io_tlb_npages", _SWIOTLB)
    forms = {
        "whole": r'!strcmp\(str, "force"\).*!strcmp\(str, "noforce"\)',
        "prefix": r'!strncmp\(str, "force", 5\).*!strncmp\(str, "noforce", 7\)',
    }
    found = [name for name, form in forms.items() if re.search(form, body, re.DOTALL)]
    if len(found) != 1:
        raise Unreadable(f"{_SWIOTLB}: unknown form of setup_io_tlb_npages")
    return found[0]


def _direct_mapping(tree: Tree) -> str:
    """dma_direct_map_phys, which moved from a header to the source."""
    for name in _DIRECT:
        try:
            return _function(tree.text(name), "dma_direct_map_phys", name)
        except Unreadable:
            continue
    raise Unreadable(f"{_DIRECT[0]}: no dma_direct_map_phys")


def mmio_translates_inbound(tree: Tree) -> bool:
    body = _direct_mapping(tree)
    untranslated = re.search(r"attrs & DMA_ATTR_MMIO\)\s*\{\s*dma_addr = phys;", body)
    translated = re.search(r"dma_addr = phys_to_dma_\w+\(dev, phys\);\s*if \(attrs & DMA_ATTR_MMIO\)", body)
    if bool(untranslated) == bool(translated):
        raise Unreadable("dma_direct_map_phys: unknown address of MMIO")
    return bool(translated)


def encrypted_mmio(tree: Tree) -> str:
    body = _function(tree.text(_DMA_DIRECT), "dma_capable", _DMA_DIRECT)
    return "not-capable" if "force_dma_unencrypted" in body else "bounced"


def bouncing_refuses_mmio(tree: Tree) -> bool:
    body = _direct_mapping(tree)
    return bool(
        re.search(
            r"is_swiotlb_force_bounce\(dev\)\).*?DMA_ATTR_MMIO.*?return DMA_MAPPING_ERROR;",
            body,
            re.DOTALL,
        )
    )


def multi_range_defect(tree: Tree) -> bool:
    body = _function(tree.text(_MAPPING), "dma_buf_phys_vec_to_sgt", _MAPPING)
    offset = re.search(r"dma_iova_link\([^,]+,[^,]+,\s*phys_vec\[i\]\.paddr,\s*([^,]+),", body)
    if not offset:
        raise Unreadable(f"{_MAPPING}: unknown form of dma_iova_link")
    return offset[1].strip() == "0"


def noiommu_cdev(tree: Tree) -> bool:
    return "IOMMUFD_NOIOMMU" in tree.text(_VFIO_KCONFIG)


def attach_event(tree: Tree) -> bool:
    try:
        return "dma_buf_dynamic_attach" in tree.text(_EVENTS)
    except Unreadable:
        return False


def rdma_drivers(tree: Tree) -> dict[str, str]:
    """The support of each driver in drivers/infiniband/hw for dma-bufs of MMIO."""
    folder = tree.folder / _RDMA
    if not folder.is_dir():
        raise Unreadable(f"{_RDMA}: not a folder")
    support = {}
    for driver in sorted(path for path in folder.iterdir() if path.is_dir()):
        text = "".join(path.read_text(errors="replace") for path in sorted(driver.rglob("*.c")))
        calls = set(re.findall(r"\b(ib_umem_dmabuf_get\w*)\(", text))
        if not re.search(r"\.reg_user_mr_dmabuf\s*=", text):
            support[driver.name] = "none"
        elif "ib_umem_dmabuf_get" in calls:
            support[driver.name] = "dynamic"
        elif any("revocable" in call for call in calls):
            support[driver.name] = "pinned-revocable"
        else:
            support[driver.name] = "pinned-forever"
    return support


def _function(text: str, name: str, file: str) -> str:
    """The definition of a C function, from its name to the closing brace in the first column."""
    found = re.search(rf"\b{name}\([^;{{]*\)\s*\{{.*?\n\}}", text, re.DOTALL)
    if not found:
        raise Unreadable(f"{file}: no {name}")
    return found[0]


_REDIRECT_BITS = {"PCI_ACS_RR", "PCI_ACS_CR", "PCI_ACS_EC"}


def differences(tree: Tree, tables: dict) -> list[str]:
    """Differences between the tables and the source, one sentence each."""
    version = tree.version()
    rules = max(
        (row for row in tables["rules"] if _version(row["since"]) <= version),
        key=lambda row: _version(row["since"]),
        default=tables["rules"][0],
    )
    listed = {
        (row["vendor"], row["device"], row["same_host_bridge"])
        for row in tables["listed_devices"]
        if _version(row["since"]) <= version
    }
    known = {row["name"]: row["support"] for row in tables["rdma_drivers"]}
    found = []

    def compare(fact: str, ours, read) -> None:
        try:
            theirs = read(tree)
        except Unreadable as error:
            found.append(f"{fact}: cannot read the source: {error}")
            return
        if ours != theirs:
            found.append(f"{fact}: the table has {ours}, the source {theirs}")

    try:
        theirs = listed_devices(tree)
    except Unreadable as error:
        found.append(f"allowlist: cannot read the source: {error}")
    else:
        found.extend(f"allowlist: the table lacks {_device(row)}" for row in sorted(theirs - listed, key=str))
        found.extend(f"allowlist: the source lacks {_device(row)}" for row in sorted(listed - theirs, key=str))
    compare("AMD processors since Zen", True, trusts_zen)
    compare("ACS redirect bits", _REDIRECT_BITS, redirect_bits)
    compare("swiotlb_words", rules["swiotlb_words"], swiotlb_words)
    compare("bouncing refuses MMIO", True, bouncing_refuses_mmio)
    for read in (mmio_translates_inbound, encrypted_mmio, multi_range_defect, noiommu_cdev, attach_event):
        compare(read.__name__, rules[read.__name__], read)
    try:
        drivers = rdma_drivers(tree)
    except Unreadable as error:
        found.append(f"rdma_drivers: cannot read the source: {error}")
    else:
        for name, support in drivers.items():
            if known.get(name) != support:
                found.append(f"rdma_drivers: {name}: the table has {known.get(name)}, the source {support}")
    return found


def _device(row: tuple[int, int | None, bool]) -> str:
    vendor, device, same = row
    id_of_device = "*" if device is None else f"{device:04x}"
    return f"{vendor:04x}:{id_of_device}" + (" (same host bridge)" if same else "")


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def tables() -> dict:
    """peerpath's tables."""
    command = ["cargo", "run", "--quiet", "--package", "peerpath-paths", "--example", "kernel_rules"]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise LabError("Cannot print the kernel rules: cargo failed. Fix the error that cargo reports above.")
    return json.loads(done.stdout)


def check_rules() -> list[tuple[str, list[str], bool]]:
    """(source, differences, whether the source is newer than the tables) for the lab's kernel source and the newest of each
    series in the archive."""
    ours = tables()
    with locked("source", "downloading the kernel source"):
        sources = {source.identity: source for source in [find(), *debian_sources()]}
    return [(source.identity, *_check(source, ours)) for source in sources.values()]


def _check(source: Source, ours: dict) -> tuple[list[str], bool]:
    progress(f"reading the kernel rules in {source.identity}")
    folder = Path(tempfile.mkdtemp(prefix="peerpath-rules-"))
    try:
        source.unpack(folder, only=_FILES)
        tree = Tree(folder)
        return differences(tree, ours), tree.version() > _version(ours["newest"])
    except Unreadable as error:
        return [str(error)], False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
