"""`scripts/lab perftest`: compares peerpath with Debian's perftest on one device, in turns.

    trials.py   the tests, and the command lines of both tools for them
    inside.py   runs the rounds, in the guest
    output.py   reads the figures of both tools
    ratios.py   ratios and verdicts over all rounds
    show.py     the table
"""

import json
import shutil
from pathlib import Path

from lab import guest, scenarios, tools
from lab.perftest import ratios, show
from lab.perftest.trials import TRIALS
from lab.locations import GUEST, write_whole
from lab.progress import progress

SCENARIO = "default"
ROUNDS = 9
_TIMEOUT_A_ROUND_S = 300
_RESULT = "perftest.json"


def run(out: Path, program: Path, *, rounds: int) -> int:
    """Measure, judge and print; returns 0 if every ratio is within its limit."""
    tools.need(tools.PERFTEST, "compare with perftest")
    # Remove the files of an earlier run.
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
    _print(conditions, verdicts, wrong, rounds)
    progress(f"saved to {out / _RESULT}")
    return 1 if wrong or any(verdict.falls_short for verdict in verdicts) else 0


def judge(records: list[dict], rounds: int) -> tuple[list[ratios.Verdict], list[str]]:
    """The verdicts, and errors for incomplete rounds."""
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


def _print(conditions: dict, verdicts: list[ratios.Verdict], wrong: list[str], rounds: int) -> None:
    print(f"\n{show.heading(conditions, rounds)}\n")
    print(show.table(verdicts), end="")
    for why in wrong:
        print(f"! {why}")
