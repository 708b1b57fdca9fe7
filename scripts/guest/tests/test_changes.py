"""Kernel changes apply completely or not at all, repeatedly, on one tree."""

import os
import tempfile
import unittest
from pathlib import Path

from lab.changes import all_changes, apply_all
from lab.errors import LabError

HOOK = """\
--- a/drivers/mr.c
+++ b/drivers/mr.c
@@ -1,6 +1,7 @@
 one
 two
 three
+hook
 four
 five
 six
"""
PRISTINE = "one\ntwo\nthree\nfour\nfive\nsix\n"
HOOKED = PRISTINE.replace("three\n", "three\nhook\n")


class Changes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.kernel = Path(folder.name, "changes")
        self.tree = Path(folder.name, "tree")
        self.write(self.tree / "drivers/mr.c", PRISTINE)
        self.write(self.kernel / "config/10-boot.config", "CONFIG_A=y\n")
        self.change = self.kernel / "some-change"
        self.write(self.change / "hooks.patch", HOOK)
        self.write(self.change / "files/drivers/added.c", "added\n")
        self.write(self.change / "README.md", "not an input\n")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def bring(self) -> None:
        apply_all(self.tree, all_changes(self.kernel))

    def text(self, name: str) -> str:
        return (self.tree / name).read_text()

    def test_applies_patches_and_added_files(self):
        self.bring()
        self.assertEqual(self.text("drivers/mr.c"), HOOKED)
        self.assertEqual(self.text("drivers/added.c"), "added\n")

    def test_empty_list_of_changes_leaves_the_tree_pristine(self):
        apply_all(self.tree, [])
        self.assertEqual(self.text("drivers/mr.c"), PRISTINE)

    def test_does_not_rewrite_unchanged_files(self):
        self.bring()
        long_ago = 1_000_000
        for name in ("drivers/mr.c", "drivers/added.c"):
            os.utime(self.tree / name, (long_ago, long_ago))
        self.write(self.change / "files/drivers/added.c", "added, improved\n")
        self.bring()
        self.assertEqual((self.tree / "drivers/mr.c").stat().st_mtime, long_ago)
        self.assertEqual(self.text("drivers/added.c"), "added, improved\n")

    def test_removing_a_change_restores_the_pristine_tree(self):
        self.bring()
        apply_all(self.tree, [])
        self.assertEqual(self.text("drivers/mr.c"), PRISTINE)
        self.assertFalse((self.tree / "drivers/added.c").exists())

    def test_two_changes_may_patch_one_file(self):
        head = HOOK.split("@@")[0]
        second = head + "@@ -4,3 +4,4 @@\n four\n five\n six\n+another\n"
        self.write(self.kernel / "then-another/hooks.patch", second)
        self.bring()
        self.assertEqual(self.text("drivers/mr.c").count("\n"), 8)
        self.bring()
        self.assertEqual(self.text("drivers/mr.c").count("\n"), 8)

    def test_failed_patch_changes_nothing(self):
        different = "quite\n" * 7
        self.write(self.tree / "drivers/mr.c", different)
        with self.assertRaisesRegex(LabError, "some-change does not apply"):
            self.bring()
        self.assertEqual(self.text("drivers/mr.c"), different)
        self.assertFalse((self.tree / "drivers/added.c").exists())

    def test_rejects_an_added_file_that_the_kernel_already_has(self):
        self.write(self.tree / "drivers/added.c", "the kernel's own\n")
        with self.assertRaisesRegex(LabError, "already has"):
            self.bring()

    def test_the_readme_is_not_an_input_of_the_build(self):
        (change,) = all_changes(self.kernel)
        names = [path.name for path in change.inputs()]
        self.assertEqual(names, ["hooks.patch", "added.c"])


if __name__ == "__main__":
    unittest.main()
