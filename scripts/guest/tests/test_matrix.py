"""The matrix: rows, disagreements and the table."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lab import guest, matrix, rows, scenarios, tabulate
from lab.scenarios import Pair
from lab.errors import EXIT_GUEST_DIED, EXIT_INTERRUPTED

TRANSLATED = "host-bridge-translated"


class Results(unittest.TestCase):
    """Cells of the default scenario: exporter 0000:01:00.0, NIC 0000:02:00.0."""

    def setUp(self):
        self.scenario = scenarios.load("default")

    def pair(self, expect: str = TRANSLATED, **more: str) -> Pair:
        return Pair(source="exporter:2", to="rxe0", expect=expect, **more)

    def cells(self, way: str = TRANSLATED, **more) -> list[dict]:
        return [
            {
                "id": f"0000:01:00.0:2/verbs:rxe0/{op}/completion/4096/1",
                "op": op,
                "direction": None if op == "register" else "into_source",
                "path": {"asked": None, "predicted": way, "observed": way},
                "outcome": "passed",
                "verified_bytes": None if op == "register" else 4096,
                "latency_ns": {"min": 10, "p50": 20},
            }
            | more
            for op in rows.OPS
        ]

    def paths(self, predicted: str = TRANSLATED, cause: str | None = None, *blockers: str) -> list:
        ends = {"from": "0000:01:00.0", "to": "0000:02:00.0"}
        return [ends | {"predicted": predicted, "cause": cause, "blockers": list(blockers)}]


class Rows(Results):
    def wrong(self, pair: Pair, cells: list[dict], paths: list[dict]) -> list[str]:
        return rows.row(self.scenario, pair, cells, paths)["disagreements"]

    def test_equal_expectation_prediction_and_observation_agree(self):
        row = rows.row(self.scenario, self.pair(), self.cells(), self.paths())
        self.assertEqual(row["disagreements"], [])
        self.assertEqual((row["from"], row["to"]), ("0000:01:00.0:2", "verbs:rxe0"))
        self.assertEqual((row["outcome"], row["cause"]), ("passed", None))
        self.assertEqual((row["register_p50_ns"], row["write_min_ns"]), (20, 10))

    def test_compares_expectation_prediction_and_observation(self):
        for wrong in (
            self.wrong(self.pair("bus-address"), self.cells(), self.paths()),
            self.wrong(self.pair(), self.cells("bus-address"), self.paths()),
            self.wrong(self.pair(), self.cells(), self.paths("bus-address")),
        ):
            self.assertTrue(wrong)

    def test_one_differing_cell_is_a_disagreement(self):
        cells = self.cells()
        cells[2]["path"] = cells[2]["path"] | {"observed": "unknown"}
        wrong = [f"read: observed unknown, not {TRANSLATED}"]
        self.assertEqual(self.wrong(self.pair(), cells, self.paths()), wrong)

    def test_unverified_bytes_are_a_disagreement(self):
        cells = self.cells(verified_bytes=0)
        wrong = ["write, read: no bytes were verified"]
        self.assertEqual(self.wrong(self.pair(), cells, self.paths()), wrong)

    def test_a_pair_without_cells_failed(self):
        row = rows.row(self.scenario, self.pair(), [], [])
        self.assertEqual((row["outcome"], row["observed"]), ("failed", "unknown"))
        self.assertIsNone(row["predicted"])
        self.assertIn("measured nothing, not register, write, read", row["disagreements"])
        one = self.wrong(self.pair(), self.cells()[:1], self.paths())
        self.assertIn("measured register, not", one[0])

    def test_a_refusal_needs_the_expected_cause(self):
        pair = self.pair("refused", cause="topology")
        more = {"cause": "topology", "reason": "so", "latency_ns": None}
        refused = self.cells("refused", outcome="waived", **more)
        row = rows.row(self.scenario, pair, refused, self.paths("refused", "topology"))
        self.assertEqual(row["disagreements"], [])
        self.assertEqual((row["outcome"], row["cause"]), ("waived", "topology"))
        self.assertNotIn("write_p50_ns", row)
        other = self.cells("refused", outcome="failed", cause="dma-mask", reason="so")
        self.assertEqual(
            self.wrong(pair, other, self.paths("refused", "topology")),
            ["register, write, read: cause dma-mask, not topology"],
        )
        self.assertEqual(len(self.wrong(pair, refused, self.paths("refused", "dma-mask"))), 1)
        through = self.cells("refused", outcome="passed", cause="topology")
        self.assertEqual(len(self.wrong(pair, through, self.paths("refused", "topology"))), 1)

    def test_a_requested_refusal_passes(self):
        pair = self.pair("refused", cause="topology", asked="refused")
        path = {"asked": "refused", "predicted": "refused", "observed": "refused"}
        refused = self.cells(path=path, outcome="passed", cause="topology", verified_bytes=None)
        self.assertEqual(self.wrong(pair, refused, []), [])
        waived = self.cells(path=path, outcome="waived", cause="topology", reason="so")
        self.assertEqual(self.wrong(pair, waived, []), ["register, write, read: waived: so"])

    def test_a_blocked_pair_is_predicted_but_not_observed(self):
        pair = self.pair(blocked="no-iommu")
        path = {"asked": None, "predicted": TRANSLATED, "observed": "unknown"}
        blocked = self.cells(path=path, outcome="waived", cause="no-iommu", reason="so")
        self.assertEqual(self.wrong(pair, blocked, self.paths(TRANSLATED, None, "no-iommu")), [])
        self.assertEqual(len(self.wrong(pair, blocked, self.paths(TRANSLATED, None))), 1)
        self.assertTrue(self.wrong(pair, self.cells(), self.paths(TRANSLATED, None, "no-iommu")))

    def test_short_path_names_are_expanded(self):
        path = {"asked": TRANSLATED, "predicted": TRANSLATED, "observed": TRANSLATED}
        pair = self.pair(asked="translated")
        # `paths` predicts for the unchanged host, not for a host that `run --path` changes.
        self.assertEqual(self.wrong(pair, self.cells(path=path), self.paths("bus-address")), [])
        self.assertEqual(len(self.wrong(pair, self.cells(), self.paths())), 1)

    def test_selects_cells_by_source_and_target(self):
        others = [
            cell
            for begins in ("0000:01:00.0:2/verbs:rxe1", "0000:01:00.0:20/verbs:rxe0")
            for cell in self.cells(id=f"{begins}/register/completion/4096/1")
        ]
        found = rows.cells_of(self.scenario, self.pair(), others + self.cells())
        self.assertEqual(found, self.cells())

    def test_names_the_pairs_whose_snapshot_differs(self):
        inside, outside = self.paths(), self.paths("bus-address")
        self.assertEqual(rows.differing(inside, outside), ["0000:01:00.0 to 0000:02:00.0"])
        self.assertEqual(rows.differing(inside, []), ["0000:01:00.0 to 0000:02:00.0"])


class Table(Results):
    def row(self, **more) -> dict:
        sound = {"snapshot_agrees": True, "guest_disagreements": []}
        return rows.row(self.scenario, self.pair(), self.cells(), self.paths()) | sound | more

    def test_prints_short_names_below_their_scenario(self):
        text = tabulate.table([self.row(), self.row(scenario="other", disagreements=["this"])])
        lines = text.splitlines()
        self.assertEqual([line for line in lines if line[0] != " "], ["default", "other"])
        self.assertIn("exporter>rxe0", lines[2])
        self.assertEqual(lines[2].split().count("translated"), 2)
        self.assertEqual(lines[-1], " ! this")

    def test_prints_the_error_of_a_guest_once(self):
        bad = {"guest_disagreements": ["it died"]}
        text = tabulate.table([self.row(**bad), self.row(**bad)])
        self.assertEqual(text.count("it died"), 1)

    def test_the_widest_row_fits(self):
        widest = self.row(
            pair="switch_exporter@512>rxe10",
            asked="bus-address",
            predicted="bus-address",
            observed="host-memory",
            cause="importer-not-revocable",
            register_p50_ns=999_999,
        )
        lines = tabulate.table([widest, self.row()]).splitlines()
        self.assertLessEqual(max(map(len, lines)), tabulate.WIDTH)
        self.assertIn("importer-not-revocable", lines[2])
        self.assertRegex(lines[2], r"^ ~\w+@512>rxe10 ")

    def test_times_have_three_digits(self):
        for time_ns, text in (
            (None, "-"),
            (15, "15 ns"),
            (1_234, "1.23 us"),
            (95_300, "95.3 us"),
            (24_012_000, "24.0 ms"),
            (999_900, "1000 us"),
            (2 * 10**9, "2.00 s"),
        ):
            with self.subTest(text):
                self.assertEqual(tabulate._time(time_ns), text)

    def test_the_summary_counts_agreeing_pairs(self):
        wrong = [
            {"disagreements": ["this"]},
            {"guest_disagreements": ["that"]},
            {"snapshot_agrees": False},
        ]
        text = tabulate.summary([self.row(), *(self.row(scenario="other", **one) for one in wrong)])
        self.assertEqual(text, f"1 of 4 pairs in 2 scenarios agree; observed paths: {TRANSLATED}")


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    @staticmethod
    def ended(exit_codes):
        return [
            guest.Outcome(ends, None, []) if isinstance(ends, int) else ends for ends in exit_codes
        ]

    def run_matrix(self, *exit_codes):
        wanted = [scenarios.load(name) for name in ("default", "bypass")]
        with (
            mock.patch("lab.guest.run", side_effect=self.ended(exit_codes)),
            mock.patch("lab.matrix._differences", return_value=[]),
            mock.patch("lab.matrix.progress"),
            mock.patch("builtins.print"),
        ):
            return matrix.run(wanted, self.out, Path("peerpath"), debug=False)

    def saved(self) -> list[dict]:
        return matrix._json(self.out / "matrix.json", [])

    def test_a_dead_guest_disagrees_and_the_others_still_run(self):
        self.assertEqual(self.run_matrix(EXIT_GUEST_DIED, 0), 1)
        self.assertEqual({row["scenario"] for row in self.saved()}, {"default", "bypass"})
        self.assertIn("exit code 91", self.saved()[0]["guest_disagreements"][-1])

    def test_measures_again_after_qemu_aborted(self):
        aborted = guest.Outcome(EXIT_GUEST_DIED, None, [], emulator_aborted=True)
        self.run_matrix(aborted, 0, 0)
        self.assertEqual({len(row["guest_disagreements"]) for row in self.saved()}, {0})
        self.run_matrix(aborted, aborted, 0)
        self.assertIn("exit code 91", self.saved()[0]["guest_disagreements"][0])

    def test_an_interrupt_keeps_finished_scenarios(self):
        for interrupt in (EXIT_INTERRUPTED, KeyboardInterrupt):
            with self.subTest(interrupt):
                self.assertEqual(self.run_matrix(0, interrupt), EXIT_INTERRUPTED)
                self.assertEqual({row["scenario"] for row in self.saved()}, {"default"})

    def test_ignores_results_of_an_earlier_run(self):
        (self.out / "default").mkdir()
        (self.out / "default" / "result.json").write_text("{}")
        self.run_matrix(0, 0)
        self.assertFalse((self.out / "default" / "result.json").exists())

    def test_each_requested_path_gets_its_own_run(self):
        scenario = scenarios.load("default")
        text = matrix._commands(scenario, self.out, Path("peerpath"))
        asked = {pair.asked for pair in scenario.pairs}
        self.assertEqual(text.count("peerpath run "), len(asked))
        self.assertIn("--from 0000:01:00.0:2 --from 0000:06:00.0:2", text)
        self.assertIn("--to verbs:rxe0 --to verbs:rxe1", text)


if __name__ == "__main__":
    unittest.main()
