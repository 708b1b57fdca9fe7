"""Finding the host's mirror in both formats of apt's sources."""

import tempfile
import unittest
from pathlib import Path

from lab import apt
from lab.source import _series


class Mirror(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.etc = Path(folder.name)
        (self.etc / "sources.list.d").mkdir()

    def mirror(self) -> str:
        return apt.mirror(self.etc, "bookworm")

    def test_one_line_form_with_options(self):
        (self.etc / "sources.list").write_text(
            "# deb http://commented.example/debian bookworm main\n"
            "deb-src http://source.example/debian bookworm main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main\n"
        )
        self.assertEqual(self.mirror(), "http://mirror.example/debian")

    def test_deb822_form_beside_third_party_sources(self):
        (self.etc / "sources.list.d/a-vendor.sources").write_text(
            "Types: deb\nURIs: https://vendor.example/apt\nSuites: nodistro\nComponents: main\n"
        )
        (self.etc / "sources.list.d/debian.sources").write_text(
            "# a comment\nTypes: deb deb-src\n# http://old.example\nURIs:\n http://mirror.example/debian\n"
            "Suites: bookworm bookworm-updates\nComponents: main\n\n"
            "Types: deb\nURIs: http://security.example\nSuites: bookworm-security\n"
        )
        self.assertEqual(self.mirror(), "http://mirror.example/debian")

    def test_ignores_disabled_sources(self):
        (self.etc / "sources.list.d/debian.sources").write_text(
            "Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\n"
        )
        self.assertEqual(self.mirror(), "http://deb.debian.org/debian")

    def test_defaults_to_deb_debian_org(self):
        self.assertEqual(self.mirror(), "http://deb.debian.org/debian")


class Series(unittest.TestCase):
    def test_reads_the_series_of_source_packages_only(self):
        self.assertEqual(_series("linux-source-7.2"), (7, 2))
        self.assertEqual(_series("linux-source-7.10"), (7, 10))
        self.assertIsNone(_series("linux-source"))
        self.assertIsNone(_series("linux-source-7.2-rt"))


if __name__ == "__main__":
    unittest.main()
