"""`scripts/lab perftest`: command lines, parsed output and verdicts."""

import unittest
from pathlib import Path

from lab import perftest
from lab.perftest import output, ratios, show, trials
from lab.perftest.output import Unreadable
from lab.perftest.trials import MINIMUM, TENTH, THROUGHPUT, TRIALS, Conditions, Trial

CONDITIONS = Conditions(gid_index=1)


def trial(program: str, **more) -> Trial:
    base = next(one for one in TRIALS if one.program == program)
    return Trial(**vars(base) | more)


def options(arguments: list[str]) -> dict[str, str]:
    """Reads both forms: `--name=value` and `--name value`."""
    words = [part for word in arguments for part in word.split("=", 1)]
    return {
        word: after for word, after in zip(words, [*words[1:], ""]) if word.startswith("--")
    }


class CommandLines(unittest.TestCase):
    def test_both_tools_get_the_same_settings(self):
        pairs = {
            "--connection": "--connection",
            "--gid-index": "--gid-index",
            "--mtu": "--mtu",
            "--size": "--size",
            "--iters": "--iterations",
            "--inline_size": "--inline",
            "--tx-depth": "--depth",
            "--cq-mod": "--completion-moderation",
            "--post_list": "--post-list",
        }
        for one in TRIALS:
            its = options(trials.perftest_arguments(one, CONDITIONS))
            ours = options(trials.peerpath_arguments(one, CONDITIONS, Path("out")))
            for name, our_name in pairs.items():
                if name in its:
                    with self.subTest(one.name, option=name):
                        self.assertEqual(its[name].lower(), ours[our_name])
            self.assertEqual(f"verbs:{its['--ib-dev']}/{its['--ib-port']}", ours["--to"])
            # Both command lines have the option, or neither.
            for name in ("--tx-depth", "--cq-mod", "--post_list"):
                self.assertEqual(name in its, pairs[name] in ours, name)

    def test_a_read_gets_no_inline_size(self):
        """perftest's read test does not support inline data."""
        said = trials.perftest_arguments(trial("ib_read_lat"), CONDITIONS)
        self.assertNotIn("--inline_size=0", said)


class Samples(unittest.TestCase):
    """Output of ib_read_lat and ib_write_lat with --report-unsorted."""

    TEXT = """\
 GID: 00:00:00:00:00:00:00:00:00:00:255:255:192:168:101:01
---------------------------------------------------------------------------------------
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] 
#, usec
1, 13783
2, 4070.06
3, 1.23e+03
4, 96.7557
---------------------------------------------------------------------------------------
"""

    def read(self, text: str, iterations: int = 5) -> dict[str, float]:
        return output.of_perftest(trial("ib_read_lat", iterations=iterations), text)

    def test_minimum_and_percentile_in_nanoseconds(self):
        figures = self.read(self.TEXT)
        self.assertEqual({key: round(value) for key, value in figures.items()}, {"min_ns": 96_756, "p10_ns": 96_756})

    def test_a_percentile_is_a_sample(self):
        samples = [float(sample) for sample in range(1, 2000)]
        self.assertEqual(output.percentile(samples, 10), 200)
        self.assertEqual(output.percentile(samples, 50), 1000)
        self.assertEqual(output.percentile([7.0], 10), 7)

    def test_rejects_other_units_and_missing_samples(self):
        for text, iterations in (
            (self.TEXT.replace("usec", "cycles"), 5),
            (self.TEXT, 6),
            (self.TEXT.replace("#, usec", ""), 5),
            ("", 5),
        ):
            with self.subTest(text), self.assertRaises(Unreadable):
                self.read(text, iterations)


class Bandwidth(unittest.TestCase):
    CAPTURED = """\
---------------------------------------------------------------------------------------
 #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]
 65536      500              0.00               81.46  \t\t   0.001303
---------------------------------------------------------------------------------------
"""
    HEAD = " #bytes     #iterations    BW peak[{0}]    BW average[{0}]   MsgRate[Mpps]\n"

    def read(self, unit: str, average: str, rate: str, size: int = 65536) -> dict[str, float]:
        line = f" {size}      500              0.00               {average}  \t\t   {rate}\n"
        return output.of_perftest(trial("ib_write_bw"), self.HEAD.format(unit) + line)

    def test_reads_mb_as_mib(self):
        for unit in ("MB/sec", "MiB/sec"):
            self.assertEqual(self.read(unit, "50.00", "0.000800"), {"bytes_per_s": 50 * 2**20})

    def test_reads_captured_output(self):
        figures = output.of_perftest(trial("ib_write_bw"), self.CAPTURED)
        self.assertEqual(figures, {"bytes_per_s": 81.46 * 2**20})

    def test_gigabits_are_decimal(self):
        self.assertEqual(self.read("Gb/sec", "0.4194", "0.000800"), {"bytes_per_s": 52_425_000})

    def test_rejects_a_unit_that_contradicts_the_message_rate(self):
        for unit, average in (("MB/sec", "52.43"), ("Gb/sec", "50.00"), ("KB/sec", "51200")):
            with self.subTest(unit), self.assertRaises(Unreadable):
                self.read(unit, average, "0.000800")

    def test_rejects_another_size(self):
        with self.assertRaises(Unreadable):
            self.read("MB/sec", "50.00", "0.000800", size=65535)


class OfPeerpath(unittest.TestCase):
    def cell(self, **more) -> dict:
        return {
            "op": "read",
            "mode": "completion",
            "size_bytes": 64,
            "iterations": 2000,
            "outcome": "passed",
            "latency_ns": {"min": 80_000, "p10": 85_000, "p50": 120_000},
        } | more

    def test_reads_the_same_figures_from_peerpath(self):
        read = trial("ib_read_lat")
        result = {"cells": [self.cell()]}
        self.assertEqual(output.of_peerpath(read, result), {"min_ns": 80_000, "p10_ns": 85_000})
        write = self.cell(op="write", mode="bandwidth", size_bytes=65536, iterations=500)
        write["throughput_bytes_per_s"] = 5e7
        figures = output.of_peerpath(trial("ib_write_bw"), {"cells": [write]})
        self.assertEqual(figures, {"bytes_per_s": 5e7})

    def test_rejects_other_cells(self):
        for cells in (
            [],
            [self.cell(), self.cell()],
            [self.cell(outcome="failed", reason="the bytes are wrong")],
            [self.cell(iterations=1999)],
            [self.cell(mode="pingpong")],
        ):
            with self.subTest(cells), self.assertRaises(Unreadable):
                output.of_peerpath(trial("ib_read_lat"), {"cells": cells})


def rounds(metric: str, ours: list[float], control: list[float]) -> list[dict]:
    return [
        {"perftest": {metric: 100.0}, "peerpath": {metric: 100 * our}, "control": {metric: 100 * its}}
        for our, its in zip(ours, control)
    ]


class Judged(unittest.TestCase):
    QUIET = [0.99, 1.0, 1.0, 1.0, 1.01]
    NOISY = [0.8, 0.9, 1.0, 1.1, 1.2]

    def verdict(self, metric, ours: list[float], control: list[float]) -> ratios.Verdict:
        return ratios.judge(trial("ib_read_lat"), metric, rounds(metric.key, ours, control))

    def falls_short(self, metric, ours: float, control: list[float]) -> bool:
        return self.verdict(metric, [ours] * 5, control).falls_short

    def test_short_means_beyond_the_limit_and_outside_the_control(self):
        self.assertTrue(self.falls_short(MINIMUM, 1.06, self.QUIET))
        self.assertFalse(self.falls_short(MINIMUM, 1.05, self.QUIET))
        self.assertFalse(self.falls_short(MINIMUM, 1.06, self.NOISY))
        self.assertTrue(self.falls_short(MINIMUM, 1.11, self.NOISY))
        self.assertTrue(self.falls_short(THROUGHPUT, 0.97, self.QUIET))
        self.assertFalse(self.falls_short(THROUGHPUT, 0.97, self.NOISY))
        self.assertTrue(self.falls_short(THROUGHPUT, 0.89, self.NOISY))

    def test_a_better_ratio_is_never_short(self):
        self.assertFalse(self.falls_short(TENTH, 0.5, self.QUIET))
        self.assertFalse(self.falls_short(THROUGHPUT, 1.5, self.QUIET))

    def test_uses_the_median_of_ratios_paired_by_round(self):
        verdict = self.verdict(MINIMUM, [1.0, 1.0, 1.0, 9.0, 9.0], self.QUIET)
        self.assertEqual(verdict.ours.median, 1.0)
        doubled = rounds("min_ns", [1.0] * 3, [1.0] * 3)
        doubled[0] = {who: {"min_ns": 500.0} for who in ("perftest", "peerpath", "control")}
        judged = ratios.judge(trial("ib_read_lat"), MINIMUM, doubled)
        self.assertEqual(judged.ours.ratios, (1.0, 1.0, 1.0))

    def test_reports_incomplete_rounds(self):
        figures = {"min_ns": 1.0, "p10_ns": 1.0, "bytes_per_s": 1.0}
        good = [
            {"round": 1, "turn": turn, "test": one.name, "wrong": []}
            | {who: figures for who in ("perftest", "peerpath", "control")}
            for one in TRIALS
            for turn in range(1, one.turns + 1)
        ]
        metrics = sum(len(one.metrics) for one in TRIALS)
        verdicts, wrong = perftest.judge(good, 1)
        self.assertEqual((len(verdicts), wrong), (metrics, []))
        first = [record for record in good if record["test"] == TRIALS[0].name]
        for record in first:
            record["wrong"] = ["control: the server exited with 1"]
        verdicts, wrong = perftest.judge(good, 1)
        self.assertEqual(len(verdicts), metrics - len(TRIALS[0].metrics))
        self.assertIn("round 1, read latency: control: the server exited with 1", wrong)
        self.assertIn(f"read latency: 0 of {len(first)} pairs were measured", wrong)
        # A round without one of its turns is incomplete.
        verdicts, wrong = perftest.judge(good[:-1], 1)
        self.assertIn(f"send bandwidth: {TRIALS[-1].turns - 1} of {TRIALS[-1].turns} pairs were measured", wrong)


class Shown(unittest.TestCase):
    def test_the_widest_line_fits(self):
        one = trial("ib_write_lat")
        ours, control = [10.25] * 3, [1.0, 1.0, 1.0]
        samples = rounds("p10_ns", ours, control)
        for record in samples:
            for figures in record.values():
                figures["p10_ns"] *= 10_000
        lines = show.table([ratios.judge(one, TENTH, samples)]).splitlines()
        self.assertLessEqual(max(map(len, lines)), show.WIDTH)
        self.assertIn("SHORT", lines[1])

    def test_units(self):
        self.assertEqual(show.figure(MINIMUM, 81_234), "81.2 us")
        self.assertEqual(show.figure(THROUGHPUT, 52_428_800), "52.4 MB/s")


if __name__ == "__main__":
    unittest.main()
