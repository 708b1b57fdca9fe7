"""The scenarios in the repository, and the validation of scenarios."""

import tempfile
import unittest
from pathlib import Path

from lab import scenarios
from lab.errors import EXIT_USAGE, LabError

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

    def test_every_scenario_has_an_exporter_and_a_nic_under_rxe0(self):
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
                if function.device is None:
                    continue
                with self.subTest(f"{name}: {function.name}"):
                    bus = function.device.split("bus=")[1].split(",")[0]
                    self.assertIn(f"id={bus},", f"id=pcie.0,{bridges}")

    def test_the_guest_creates_each_function_that_qemu_does_not(self):
        for name in scenarios.names():
            scenario = scenarios.load(name)
            made = any(function.device is None for function in scenario.functions)
            with self.subTest(name):
                self.assertTrue(not made or scenario.prepare)

    def test_every_scenario_has_pairs_and_together_they_cover_every_path(self):
        shown = set()
        for name in scenarios.names():
            pairs = scenarios.load(name).pairs
            with self.subTest(name):
                self.assertTrue(pairs)
            shown |= {pair.expect for pair in pairs}
        self.assertEqual(shown, set(scenarios.PATHS))

    def test_the_names_fit_the_table(self):
        for name in scenarios.names():
            for pair in scenarios.load(name).pairs:
                with self.subTest(f"{name}: {pair.label}"):
                    self.assertLessEqual(len(pair.label), 22)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("default", BASE)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.toml").write_text(text)


class Written(Folder):
    def test_like_completes_keys_that_are_not_set(self):
        self.write("other", 'like = "default"\ncommand_line = ["iommu=pt"]\n')
        other = scenarios.load("other", self.folder)
        self.assertEqual(other.command_line, ("iommu=pt",))
        self.assertEqual(other.functions[0].name, "nic")

    def test_like_does_not_copy_the_allowed_warning(self):
        self.write("other", 'like = "default"\n')
        self.assertEqual(scenarios.load("default", self.folder).allowed_warning, "expected")
        self.assertIsNone(scenarios.load("other", self.folder).allowed_warning)

    def test_an_unknown_name_lists_the_known_ones(self):
        with self.assertRaisesRegex(LabError, "Unknown scenario 'bogus'.*default") as caught:
            scenarios.load("bogus", self.folder)
        self.assertEqual(caught.exception.exit_code, EXIT_USAGE)

    def test_rejects_two_functions_at_one_address(self):
        self.write("twice", BASE + BASE[BASE.index("[[function]]") :].replace('"nic"', '"nic2"'))
        with self.assertRaisesRegex(LabError, "0000:01:00.0 is used twice"):
            scenarios.load("twice", self.folder)

    def test_the_image_of_a_drive_is_in_the_run_folder(self):
        drive = 'drive_mib = 4\ndevice = "nvme,drive=nic"\n'
        self.write("drive", BASE.replace('device = "e1000e"\n', drive))
        (function,) = scenarios.load("drive", self.folder).functions
        arguments = function.qemu_arguments(Path("/run"))
        self.assertIn("if=none,id=nic,format=raw,file=/run/nic.img", arguments)


class Pairs(Folder):
    FUNCTIONS = BASE + """\
[[function]]
name = "exporter"
bdf = "0000:02:00.0"
pci_id = "1af4:1110"
about = "d"
device = "ivshmem-plain"
"""

    def load(self, *pairs: str):
        text = "".join(f"[[pair]]\n{pair}\n" for pair in pairs)
        self.write("paired", self.FUNCTIONS + text.replace("; ", "\n"))
        return scenarios.load("paired", self.folder)

    def test_peerpath_gets_addresses_and_tables_show_names(self):
        paired = self.load(
            'from = "exporter:2@0x0+0x1000,0x4000+0x1000"; to = "rxe0"; expect = "bus-address"',
            'from = "host:1M"; to = "rxe0"; expect = "host-memory"',
        )
        bar, memory = paired.pairs
        self.assertEqual(paired.source(bar), "0000:02:00.0:2@0x0+0x1000,0x4000+0x1000")
        self.assertEqual(bar.label, "exporter@2>rxe0")
        self.assertEqual(paired.source(memory), "host:1M")
        self.assertEqual(memory.label, "host:1M>rxe0")
        self.assertEqual(paired.importer(bar).name, "nic")

    def test_like_does_not_copy_pairs(self):
        self.load('from = "exporter:2"; to = "rxe0"; expect = "bus-address"')
        self.write("other", 'like = "paired"\n')
        self.assertEqual(scenarios.load("other", self.folder).pairs, ())

    def test_rejects_mistakes_in_a_pair(self):
        for pair, why in (
            ('from = "exporter"; to = "rxe0"; expect = "bus-address"', "neither FUNCTION:BAR"),
            ('from = "gone:2"; to = "rxe0"; expect = "bus-address"', "neither FUNCTION:BAR"),
            ('from = "exporter:2"; to = "rxe7"; expect = "bus-address"', "no soft-RoCE device"),
            ('from = "exporter:2"; to = "rxe0"; expect = "bypass"', "not a path name"),
            ('from = "exporter:2"; to = "rxe0"; expect = "refused"', "needs a cause"),
            ('from = "host:1M"; to = "rxe0"; expect = "host-memory"; cause = "x"', "a cause"),
        ):
            with self.subTest(pair), self.assertRaisesRegex(LabError, why):
                self.load(pair)

    def test_rejects_a_combination_without_an_expectation(self):
        more = self.FUNCTIONS.replace('"exporter"', '"nic2"').replace("02:00.0", "03:00.0")
        nic = more[more.rindex("[[function]]") :]
        self.FUNCTIONS += nic.replace("device =", 'rdma = "rxe1"\ndevice =')
        first = 'from = "exporter:2"; to = "rxe0"; expect = "bus-address"'
        second = 'from = "host:1M"; to = "rxe1"; expect = "host-memory"'
        with self.assertRaisesRegex(LabError, "exporter:2 to rxe1 must be listed exactly once"):
            self.load(first, second)
        # A requested path needs a separate run.
        self.assertEqual(len(self.load(first, f'{second}; asked = "staged"').pairs), 2)
        with self.assertRaisesRegex(LabError, "exporter:2 to rxe0 must be listed exactly once"):
            self.load(first, first)


if __name__ == "__main__":
    unittest.main()
