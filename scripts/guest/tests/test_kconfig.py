"""Dropped Kconfig options are reported."""

import unittest

from lab import kconfig

CONFIG = """\
CONFIG_PCI=y
# CONFIG_USB is not set
CONFIG_NR_CPUS=64
"""


class Missing(unittest.TestCase):
    def test_finds_options_that_are_set(self):
        asked = ["CONFIG_PCI=y", "CONFIG_NR_CPUS=64", "# CONFIG_USB is not set"]
        self.assertEqual(kconfig.missing(asked, CONFIG), [])

    def test_names_a_dropped_option(self):
        self.assertEqual(kconfig.missing(["CONFIG_IOMMUFD=y"], CONFIG), ["CONFIG_IOMMUFD=y"])

    def test_another_value_counts_as_missing(self):
        self.assertEqual(kconfig.missing(["CONFIG_NR_CPUS=8"], CONFIG), ["CONFIG_NR_CPUS=8"])

    def test_off_is_the_same_as_absent(self):
        self.assertEqual(kconfig.missing(["# CONFIG_SOUND is not set"], CONFIG), [])
        off = "# CONFIG_PCI is not set"
        self.assertEqual(kconfig.missing([off], CONFIG), [off])

    def test_accepts_either_of_two_names(self):
        self.assertEqual(kconfig.missing(["CONFIG_NEW=y | CONFIG_PCI=y"], CONFIG), [])
        neither = "CONFIG_NEW=y | CONFIG_OLD=y"
        self.assertEqual(kconfig.missing([neither], CONFIG), [neither])

    def test_ignores_comments(self):
        options = kconfig.wanted(kconfig.fragments(debug=True))
        self.assertIn("CONFIG_RDMA_RXE=y", options)
        self.assertIn("CONFIG_PROVE_LOCKING=y", options)
        self.assertEqual([o for o in options if "CONFIG_" not in o], [])

    def test_no_option_is_requested_twice(self):
        options = kconfig.wanted(kconfig.fragments(debug=True))
        self.assertEqual(sorted(set(options)), sorted(options))


if __name__ == "__main__":
    unittest.main()
