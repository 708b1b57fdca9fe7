"""`scripts/lab perftest`: peerpath beside Debian's perftest, on one device, in turns.

    trials.py   what is measured, and how each tool is told to do the same
    inside.py   runs in the guest: the rounds
    output.py   what either tool says, as the same figures
    ratios.py   what the rounds amount to
    show.py     the table
"""

import json
import shutil
from pathlib import Path

from lab import guest, scenarios, tools
from lab.perftest import ratios, show
from lab.perftest.trials import TRIALS
from lab.places import GUEST, write_whole
from lab.say import say

SCENARIO = "default"
ROUNDS = 9
_TIMEOUT_A_ROUND_S = 300
_RESULT = "perftest.json"


def run(out: Path, program: Path, *, rounds: int) -> int:
    """Measure, judge and tell; 0 if peerpath falls short nowhere."""
    tools.need(tools.PERFTEST, "measure beside perftest")
    # Of an earlier run: nothing of it may pass for this one's.
    shutil.rmtree(out / "runs", ignore_errors=True)
    for name in ("conditions.json", "rounds.json", _RESULT):
        (out / name).unlink(missing_ok=True)
    inside = ["python3", "-B", "-m", "lab.perftest.inside", str(out), str(program), str(rounds)]
    outcome = guest.run(
        scenarios.load(SCENARIO),
        ["env", f"PYTHONPATH={GUEST}", *inside],
        out,
        debug=False,
        timeout_s=600 + rounds * _TIMEOUT_A_ROUND_S,
    )
    if outcome.exit_code != 0:
        return outcome.exit_code
    records = json.loads((out / "rounds.json").read_text())
    conditions = json.loads((out / "conditions.json").read_text())
    verdicts, wrong = judge(records, rounds)
    result = {
        "conditions": conditions,
        "rounds": records,
        "verdicts": [verdict.as_json() for verdict in verdicts],
        "wrong": wrong,
    }
    write_whole(out / _RESULT, json.dumps(result, indent=2) + "\n")
    _tell(conditions, verdicts, wrong, rounds)
    say(f"saved to {out / _RESULT}")
    return 1 if wrong or any(verdict.falls_short for verdict in verdicts) else 0


def judge(records: list[dict], rounds: int) -> tuple[list[ratios.Verdict], list[str]]:
    """The verdicts, and what could not be measured."""
    wrong = [
        f"round {record['round']}, {record['test']}: {why}"
        for record in records
        for why in record["wrong"]
    ]
    verdicts = []
    for trial in TRIALS:
        whole = [one for one in records if one["test"] == trial.name and not one["wrong"]]
        pairs = rounds * trial.turns
        if len(whole) < pairs:
            wrong.append(f"{trial.name}: {len(whole)} of {pairs} pairs were measured")
        if whole:
            verdicts += [ratios.judge(trial, metric, whole) for metric in trial.metrics]
    return verdicts, wrong


def _tell(conditions: dict, verdicts: list[ratios.Verdict], wrong: list[str], rounds: int) -> None:
    print(f"\n{show.heading(conditions, rounds)}\n")
    print(show.table(verdicts), end="")
    for why in wrong:
        print(f"! {why}")
