"""Paired ratios over all rounds, and the verdicts on them."""

import statistics
from dataclasses import asdict, dataclass

from lab.perftest.trials import Metric, Trial


@dataclass(frozen=True)
class Spread:
    """Ratios of all rounds: median and interquartile range."""

    median: float
    low: float
    high: float
    ratios: tuple[float, ...]

    @classmethod
    def of(cls, ratios: list[float]) -> "Spread":
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0], tuple(ratios))
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high, tuple(ratios))


@dataclass(frozen=True)
class Verdict:
    """The result for one metric of one trial."""

    trial: Trial
    metric: Metric
    perftest: float
    """Median over the rounds, to show the order of magnitude."""
    peerpath: float
    ours: Spread
    """peerpath's figure divided by perftest's, in each round."""
    control: Spread
    """The second perftest's figure divided by the first one's, in each round."""

    @property
    def is_beyond(self) -> bool:
        return self.metric.beyond(self.ours.median)

    @property
    def falls_short(self) -> bool:
        """Whether the ratio is beyond the limit and outside the control's interquartile range."""
        if self.metric.more_is_better:
            return self.is_beyond and self.ours.median < self.control.low
        return self.is_beyond and self.ours.median > self.control.high

    def as_json(self) -> dict:
        return {
            "test": self.trial.name,
            "metric": self.metric.key,
            "limit": self.metric.limit,
            "more_is_better": self.metric.more_is_better,
            "perftest_median": self.perftest,
            "peerpath_median": self.peerpath,
            "ratio": asdict(self.ours),
            "control": asdict(self.control),
            "beyond_limit": self.is_beyond,
            "falls_short": self.falls_short,
        }


def judge(trial: Trial, metric: Metric, rounds: list[dict]) -> Verdict:
    """The verdict on METRIC. ROUNDS hold the figures of both tools for TRIAL."""
    figures = {
        who: [one[who][metric.key] for one in rounds] for who in ("perftest", "peerpath", "control")
    }

    def ratios(who: str) -> Spread:
        return Spread.of([ours / its for ours, its in zip(figures[who], figures["perftest"])])

    return Verdict(
        trial,
        metric,
        statistics.median(figures["perftest"]),
        statistics.median(figures["peerpath"]),
        ratios("peerpath"),
        ratios("control"),
    )
