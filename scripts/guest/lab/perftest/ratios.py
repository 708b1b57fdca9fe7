"""What the rounds amount to: paired ratios, and which of them fall short."""

import statistics
from dataclasses import asdict, dataclass

from lab.perftest.trials import Metric, Trial


@dataclass(frozen=True)
class Spread:
    """Ratios of all rounds, by their median and the middle half of them."""

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
    """One metric of one trial."""

    trial: Trial
    metric: Metric
    perftest: float
    """Its median over the rounds, to say what the ratios are about."""
    peerpath: float
    ours: Spread
    """peerpath's figure divided by perftest's of the same round."""
    control: Spread
    """perftest's other figure of the round divided by the same one."""

    @property
    def is_beyond(self) -> bool:
        return self.metric.beyond(self.ours.median)

    @property
    def falls_short(self) -> bool:
        """Beyond the limit, and by more than perftest differs from itself."""
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
    """ROUNDS hold for each tool the figures of TRIAL."""
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
