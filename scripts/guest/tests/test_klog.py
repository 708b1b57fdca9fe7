"""The scan of the kernel log finds every fault and nothing else."""

import unittest

from lab.klog import kernel_lines, scan

WARN = """\
[    4.100000] ------------[ cut here ]------------
[    4.100001] WARNING: drivers/iommu/dma-iommu.c:1234 at dma_iova_link+0x1/0x2, CPU#1: cat/77
[    4.100002] Call Trace:
[    4.100003]  <TASK>
[    4.100004] ---[ end trace 0000000000000000 ]---
"""
ONE_LINERS = (
    "BUG: kernel NULL pointer dereference, address: 0000000000000010",
    "Oops: Oops: 0002 [#1] SMP KASAN",
    "BUG: KASAN: slab-use-after-free in rxe_dmabuf_unmap+0x10/0x20",
    "WARNING: possible circular locking dependency detected",
    "WARNING: possible recursive locking detected",
    "WARNING: suspicious RCU usage",
    "WARNING: inconsistent lock state",
    "BUG: sleeping function called from invalid context at mm/slab.h:320",
    "BUG: scheduling while atomic: kworker/0:1/12/0x00000002",
    "refcount_t: underflow; use-after-free.",
    "UBSAN: array-index-out-of-bounds in a.c:1:2",
    "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
    "INFO: task peerpath:99 blocked for more than 120 seconds.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [peerpath:99]",
    "list_del corruption. prev->next should be ffff, but was dead",
    "Kernel panic - not syncing: Fatal exception",
    "DMA-API: e1000e 0000:01:00.0: device driver frees DMA memory with wrong size",
)
HARMLESS = (
    "Linux version 7.2.12 (gcc) #1 SMP",
    "Command line: panic=-1 hung_task_panic=0",
    "e1000e 0000:01:00.0: PME# disabled",
    "hardlockup detector disabled",
    "Debugging options: BUG_ON enabled",
    "vfio-pci 0000:01:00.0: resetting",
    "virtme-init: WARNING: this is user space speaking",
    "rcu: \tRCU event tracing is enabled.",
)


def log(*lines: str) -> str:
    return "".join(f"[   12.345678] {line}\n" for line in lines)


class Scan(unittest.TestCase):
    def test_finds_every_kind_of_fault(self):
        for line in ONE_LINERS:
            with self.subTest(line):
                self.assertEqual([c.headline for c in scan(log(line))], [line])

    def test_ignores_ordinary_messages(self):
        for line in HARMLESS:
            with self.subTest(line):
                self.assertEqual(scan(log(line)), [])

    def test_ignores_lines_that_programs_write(self):
        self.assertEqual(scan("WARNING: a program wrote this\nBUG: and this\n"), [])

    def test_a_report_ends_at_its_end_mark(self):
        (complaint,) = scan(WARN + log("nothing more"))
        self.assertIn("dma_iova_link", complaint.headline)
        self.assertTrue(complaint.excerpt[-1].startswith("---[ end trace"))

    def test_skips_the_allowed_warning(self):
        self.assertEqual(scan(WARN, allowed="dma_iova_link"), [])

    def test_an_allowed_warning_does_not_hide_others(self):
        text = log("WARNING: at allowed_function+0x1/0x2") + log(ONE_LINERS[0])
        (complaint,) = scan(text, allowed="allowed_function")
        self.assertEqual(complaint.headline, ONE_LINERS[0])

    def test_parses_prefixes_of_level_and_caller(self):
        text = "<4>[    1.000000][   T12] BUG: bad\n[    1.000000][    C1] fine\n"
        self.assertEqual(kernel_lines(text), ["BUG: bad", "fine"])

    def test_a_second_report_starts_a_new_excerpt(self):
        first, second = scan(WARN + WARN)
        self.assertEqual(len(first.excerpt), len(second.excerpt))


if __name__ == "__main__":
    unittest.main()
