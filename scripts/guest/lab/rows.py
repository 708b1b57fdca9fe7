"""The rows of the matrix: one per pair, with the disagreements between three sources.

The scenario states the expected path of a pair, `peerpath paths` and `peerpath run`
predict it, and `peerpath run` observes it in the kernel.
"""

from lab.scenarios import Pair, Scenario

OPS = ("register", "write", "read")
# Short names that --path accepts in addition to the full ones.
_SHORT = {"bypass": "host-bridge-bypass", "translated": "host-bridge-translated"}


def full_name(path: str | None) -> str | None:
    return _SHORT.get(path, path)


def row(scenario: Scenario, pair: Pair, cells: list[dict], paths: list[dict]) -> dict:
    """The row of PAIR from its CELLS and from PATHS, the output of `peerpath paths` in the guest."""
    first = cells[0] if cells else {"path": {}}
    path = first["path"]
    made = {
        "scenario": scenario.name,
        "pair": pair.label,
        "from": scenario.source(pair),
        "to": f"verbs:{pair.to}",
        "asked": full_name(pair.asked),
        "predicted": path.get("predicted"),
        "observed": path.get("observed", "unknown"),
        "outcome": _worst([cell["outcome"] for cell in cells]),
        "cause": next((cell["cause"] for cell in cells if cell.get("cause")), None),
        "expected": pair.expect,
        "expected_cause": pair.cause or pair.blocked,
    }
    for op in ("register", "write"):
        latency = next((cell.get("latency_ns") for cell in cells if cell["op"] == op), None)
        if latency:
            made |= {f"{op}_p50_ns": latency["p50"], f"{op}_min_ns": latency["min"]}
    made["disagreements"] = [
        *_with_the_scenario(pair, cells),
        *_with_the_paths(scenario, pair, path.get("predicted"), paths),
    ]
    return made


def agrees(row: dict) -> bool:
    """Whether expectation, prediction and observation agree, and the guest did not fail."""
    return row["snapshot_agrees"] and not row["disagreements"] and not row["guest_disagreements"]


def _worst(outcomes: list[str]) -> str:
    """Returns the worst outcome. A pair without cells has failed."""
    otherwise = "passed" if outcomes else "failed"
    return next((bad for bad in ("failed", "waived") if bad in outcomes), otherwise)


def _with_the_scenario(pair: Pair, cells: list[dict]) -> list[str]:
    measured = sorted(cell["op"] for cell in cells)
    if measured != sorted(OPS):
        return [f"measured {', '.join(measured) or 'nothing'}, not {', '.join(OPS)}"]
    wrong: dict[str, list[str]] = {}
    for cell in cells:
        expected = {
            "asked": full_name(pair.asked),
            "predicted": pair.expect,
            # A run does not try a blocked pair, so it observes no path.
            "observed": "unknown" if pair.blocked else pair.expect,
            "cause": pair.cause or pair.blocked,
        }
        found = {key: cell["path"].get(key) for key in ("asked", "predicted", "observed")}
        found["cause"] = cell.get("cause")
        said = [
            f"{key} {found[key]}, not {wanted}"
            for key, wanted in expected.items()
            if found[key] != wanted
        ]
        passed = cell["outcome"] == "passed"
        # `--path refused` requests that the kernel refuses the mapping, so a refusal passes.
        works = pair.expect != "refused" and pair.blocked is None
        if passed != (works or pair.asked == "refused"):
            said.append(f"{cell['outcome']}: {cell.get('reason') or 'no reason'}")
        if works and cell.get("direction") and not cell.get("verified_bytes"):
            said.append("no bytes were verified")
        for text in said:
            wrong.setdefault(text, []).append(cell["op"])
    return [f"{', '.join(ops)}: {text}" for text, ops in wrong.items()]


def _with_the_paths(
    scenario: Scenario, pair: Pair, predicted: str | None, paths: list[dict]
) -> list[str]:
    """Disagreements with `paths`, which predicts only for whole BARs and without a requested path."""
    if pair.function is None or "@" in pair.source or pair.asked:
        return []
    ends = (scenario.function(pair.function).bdf, scenario.importer(pair).bdf)
    report = next((report for report in paths if (report["from"], report["to"]) == ends), None)
    if report is None:
        return ["`paths` does not list the pair"]
    wrong = []
    if report["predicted"] != predicted:
        wrong.append(f"`paths` predicts {report['predicted']}, `run` {predicted}")
    if report["cause"] != pair.cause:
        wrong.append(f"`paths` reports cause {report['cause']}, not {pair.cause}")
    if pair.blocked and pair.blocked not in report["blockers"]:
        blockers = ", ".join(report["blockers"]) or "none"
        wrong.append(f"`paths` reports blockers {blockers}, not {pair.blocked}")
    return wrong


def cells_of(scenario: Scenario, pair: Pair, cells: list[dict]) -> list[dict]:
    """The cells of PAIR: a cell's id begins with its source and target as given."""
    begins = f"{scenario.source(pair)}/verbs:{pair.to}/"
    return [cell for cell in cells if cell["id"].startswith(begins)]


def differing(inside: list[dict], outside: list[dict]) -> list[str]:
    """Pairs for which `paths` differs between the guest and its snapshot."""
    by_pair = [
        {(report["from"], report["to"]): report for report in side} for side in (inside, outside)
    ]
    pairs = sorted(by_pair[0].keys() | by_pair[1].keys())
    return [f"{a} to {b}" for a, b in pairs if by_pair[0].get((a, b)) != by_pair[1].get((a, b))]
