"""Tests of the scripts: their help, their handling of unknown arguments, and what scripts/demo does with an earlier result."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
NAMES = ["demo", "gpu-check", "lab", "setup", "test"]
LAB_COMMANDS = ["list", "run", "matrix", "perftest", "kernel", "check-patches", "check-rules"]


def run(command, folder, **variables):
    # Use only the programs of the system and of the test, not those that the user of this machine has installed.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60)


class Scripts(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_help_states_the_costs_and_changes_nothing(self):
        for name in NAMES:
            with self.subTest(name):
                for option in ["--help", "-h"]:
                    done = run([SCRIPTS / name, option], self.folder)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))
                    for word in ["usage:", "need", "time", "download", "disk"]:
                        self.assertIn(word, done.stdout.lower())
                self.assertEqual(list(self.folder.iterdir()), [])

    def test_each_command_of_the_lab_has_a_help(self):
        for command in LAB_COMMANDS:
            with self.subTest(command):
                done = run([SCRIPTS / "lab", command, "--help"], self.folder)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(f"usage: scripts/lab {command}", done.stdout)

    def test_unknown_arguments_are_refused(self):
        commands = [[name] for name in NAMES] + [["lab", command] for command in LAB_COMMANDS]
        for command in commands:
            for argument in ["--no-such-option", "--help=x"]:
                with self.subTest((command, argument)):
                    done = run([SCRIPTS / command[0], *command[1:], argument], self.folder)
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertIn("usage:", done.stderr.lower())
        for name in ["demo", "gpu-check", "setup", "test"]:
            with self.subTest(name):
                self.assertEqual(run([SCRIPTS / name, "unexpected"], self.folder).returncode, 2)
                self.assertEqual(run([SCRIPTS / name, "--help", "unexpected"], self.folder).stderr == "", name not in ["demo", "test"])


class Demo(unittest.TestCase):
    """Runs scripts/demo in a folder in which programs of the test replace the set-up, cargo and the lab."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "scripts").mkdir()
        shutil.copy(SCRIPTS / "demo", self.folder / "scripts/demo")
        self.program("scripts/setup", "exit 0")
        self.program("bin/cargo", "exit 0")
        self.program("target/release/peerpath", "exit 0")
        # Saves the number of the run as the result.
        self.program("scripts/lab", "echo x >>runs; wc -l <runs >results/demo/result.json")

    def program(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def demo(self, *arguments):
        return run([self.folder / "scripts/demo", *arguments], self.folder, PATH=f"{self.folder}/bin:/usr/bin:/bin")

    def results(self):
        folders = sorted((self.folder / "results").iterdir())
        return {folder.name: (folder / "result.json").read_text().strip() for folder in folders}

    def test_an_earlier_result_is_kept(self):
        for _ in range(3):
            done = self.demo()
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.results(), {"demo": "3", "demo-1": "1", "demo-2": "2"})
        self.assertIn("results/demo-2", done.stdout)

    def test_a_folder_without_a_result_is_kept_too(self):
        notes = self.folder / "results/demo/notes.txt"
        notes.parent.mkdir(parents=True)
        notes.write_text("precious")
        self.assertEqual(self.demo().returncode, 0)
        self.assertEqual((self.folder / "results/demo-1/notes.txt").read_text(), "precious")

    def test_help_and_wrong_usage_leave_the_result(self):
        self.assertEqual(self.demo().returncode, 0)
        for arguments in [["--help"], ["--halp"], ["x"]]:
            self.demo(*arguments)
        self.assertEqual(self.results(), {"demo": "1"})

    def test_a_failed_set_up_leaves_the_result(self):
        self.assertEqual(self.demo().returncode, 0)
        self.program("scripts/setup", "exit 3")
        self.assertEqual(self.demo().returncode, 3)
        self.assertEqual(self.results(), {"demo": "1"})


if __name__ == "__main__":
    unittest.main()
