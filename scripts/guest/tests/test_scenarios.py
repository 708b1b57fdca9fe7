"""The scenarios that ship, and the mistakes that are caught in them."""

import tempfile
import unittest
from pathlib import Path

from lab import scenarios
from lab.trouble import EXIT_USAGE, Trouble

BASE = """\
about = "a"
shows = "b"
cpu = "EPYC"
machine = "q35"
memory_mib = 512
command_line = ["intel_iommu=on"]
allowed_warning = "expected"
[[bridge]]
device = "intel-iommu"
[[function]]
name = "nic"
bdf = "0000:01:00.0"
pci_id = "8086:10d3"
about = "c"
rdma = "rxe0"
device = "e1000e"
"""


class Shipped(unittest.TestCase):
    def test_every_scenario_loads_and_can_be_listed(self):
        for name in scenarios.names():
            with self.subTest(name):
                scenario = scenarios.load(name)
                self.assertEqual(scenario.as_json()["name"], name)

    def test_the_default_comes_first(self):
        self.assertEqual(scenarios.names()[0], "default")

    def test_every_one_has_an_exporter_and_a_nic_under_rxe0(self):
        for name in scenarios.names():
            with self.subTest(name):
                by_name = {function.name: function for function in scenarios.load(name).functions}
                self.assertIn("exporter", by_name)
                self.assertEqual(by_name["nic"].rdma, "rxe0")

    def test_every_function_sits_on_a_bus_of_a_bridge(self):
        for name in scenarios.names():
            scenario = scenarios.load(name)
            bridges = " ".join(scenario.bridges)
            for function in scenario.functions:
                with self.subTest(f"{name}: {function.name}"):
                    bus = function.device.split("bus=")[1].split(",")[0]
                    self.assertIn(f"id={bus},", bridges)


class Written(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("default", BASE)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.toml").write_text(text)

    def test_like_takes_over_what_is_not_said(self):
        self.write("other", 'like = "default"\ncommand_line = ["iommu=pt"]\n')
        other = scenarios.load("other", self.folder)
        self.assertEqual(other.command_line, ("iommu=pt",))
        self.assertEqual(other.functions[0].name, "nic")

    def test_an_allowed_warning_is_not_taken_over(self):
        self.write("other", 'like = "default"\n')
        self.assertEqual(scenarios.load("default", self.folder).allowed_warning, "expected")
        self.assertIsNone(scenarios.load("other", self.folder).allowed_warning)

    def test_an_unknown_one_names_the_known(self):
        with self.assertRaisesRegex(Trouble, "no scenario 'bogus'.*default") as caught:
            scenarios.load("bogus", self.folder)
        self.assertEqual(caught.exception.exit_code, EXIT_USAGE)

    def test_two_functions_at_one_address_are_a_mistake(self):
        self.write("twice", BASE + BASE[BASE.index("[[function]]") :].replace('"nic"', '"nic2"'))
        with self.assertRaisesRegex(Trouble, "0000:01:00.0 stands twice"):
            scenarios.load("twice", self.folder)

    def test_a_drive_gets_its_image_in_the_run_folder(self):
        drive = 'drive_mib = 4\ndevice = "nvme,drive=nic"\n'
        self.write("drive", BASE.replace('device = "e1000e"\n', drive))
        (function,) = scenarios.load("drive", self.folder).functions
        arguments = function.qemu_arguments(Path("/run"))
        self.assertIn("if=none,id=nic,format=raw,file=/run/nic.img", arguments)


if __name__ == "__main__":
    unittest.main()
