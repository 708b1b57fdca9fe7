"""Input that a run passes to its guest, and its verdict on the results."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lab import guest, scenarios
from lab.errors import EXIT_GUEST_DIED, EXIT_KERNEL_LOG, EXIT_TIMEOUT, LabError

QUIET = "[    1.000000] Linux version 7.2.12\n"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "run")
        self.out = Path(folder.name, "out")
        self.folder.mkdir()
        self.out.mkdir()
        self.scenario = scenarios.load("default")


class Input(Folder):
    def fill(self, command: list[str], environment: dict[str, str]) -> None:
        with mock.patch.dict(os.environ, environment, clear=True):
            guest._write_control_files(self.folder, self.scenario, command, self.out)

    def test_passes_arguments_unchanged(self):
        self.fill(["printf", "%s|", "two words", "it's", "$HOME", ""], {})
        done = subprocess.run(["bash", self.folder / "command"], text=True, capture_output=True)
        self.assertEqual(done.stdout, "two words|it's|$HOME||")

    def test_passes_only_our_environment_variables(self):
        self.fill(["true"], {"PEERPATH_X": "a b", "RUST_LOG": "debug", "SECRET": "no"})
        text = (self.folder / "environment.sh").read_text()
        self.assertIn("export PEERPATH_X='a b'\n", text)
        self.assertIn("export RUST_LOG=debug\n", text)
        self.assertNotIn("SECRET", text)

    def test_the_environment_names_the_scenario_and_its_functions(self):
        self.fill(["true"], {})
        text = (self.folder / "environment.sh").read_text()
        self.assertIn("export PEERPATH_LAB_GUEST=default\n", text)
        self.assertIn("export PEERPATH_LAB_EXPORTER=0000:01:00.0\n", text)

    def test_lab_tests_do_not_start_labs_inside_the_lab(self):
        self.fill(["true"], {"PEERPATH_LAB": "1"})
        self.assertNotIn("PEERPATH_LAB=", (self.folder / "environment.sh").read_text())

    def test_rejects_paths_that_cannot_be_shared(self):
        for name in ("/tmp/a,b", "/tmp/a b", "/tmp/ä"):
            with self.subTest(name), self.assertRaisesRegex(LabError, "cannot be shared"):
                guest.check_shareable([Path(name)])


class Verdict(Folder):
    def judge(self, console: str, code: str | None = None, killed: int | None = None):
        (self.out / "console.txt").write_text(console)
        if code is not None:
            (self.folder / "exit-code").write_text(code)
        with mock.patch("lab.guest.progress"), mock.patch("sys.stderr"):
            return guest._judge(self.folder, self.scenario, self.out, killed)

    def test_the_exit_code_is_that_of_the_command(self):
        self.assertEqual(self.judge(QUIET, "7\n").exit_code, 7)

    def test_a_kernel_warning_fails_a_successful_command(self):
        outcome = self.judge(QUIET + "[    2.000000] BUG: bad\n", "0\n")
        self.assertEqual(outcome.exit_code, EXIT_KERNEL_LOG)
        self.assertEqual(outcome.command_exit_code, 0)

    def test_no_exit_code_means_that_the_guest_died(self):
        self.assertEqual(self.judge(QUIET).exit_code, EXIT_GUEST_DIED)

    def test_a_killed_guest_keeps_the_reason(self):
        self.assertEqual(self.judge(QUIET, None, EXIT_TIMEOUT).exit_code, EXIT_TIMEOUT)

    def test_the_console_replaces_a_missing_log(self):
        self.judge(QUIET)
        self.assertEqual((self.out / "dmesg.txt").read_text(), QUIET)


class Booted(Folder):
    """With a fake QEMU that counts its starts."""

    def boot(self, script: str) -> tuple[int | None, bool, int]:
        count = self.folder / "count"
        count.unlink(missing_ok=True)
        command = ["bash", "-c", f"cd {self.folder}; echo >>count; {script}"]
        with open(os.devnull, "wb") as sink, mock.patch("lab.guest.progress"):
            console = self.out / "console.txt"
            ended = guest._boot(command, (sink, sink), console, self.folder, timeout_s=60)
        return *ended, len(count.read_text().splitlines())

    def test_boots_again_once_if_qemu_aborts_before_the_guest_is_ready(self):
        self.assertEqual(self.boot("kill -ABRT $$"), (None, True, 2))
        once = "[[ -e second ]] || { touch second; kill -ABRT $$; }"
        self.assertEqual(self.boot(once), (None, False, 2))

    def test_does_not_boot_again_after_the_guest_is_ready(self):
        self.assertEqual(self.boot("touch ready; kill -ABRT $$"), (None, True, 1))

    def test_does_not_boot_again_for_other_exit_statuses(self):
        for script in ("true", "exit 1", "kill -KILL $$"):
            with self.subTest(script):
                self.assertEqual(self.boot(script), (None, False, 1))


if __name__ == "__main__":
    unittest.main()
