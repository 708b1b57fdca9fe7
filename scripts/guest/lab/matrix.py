"""`scripts/lab matrix`: compares the predicted, observed and expected path in every scenario."""

import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from lab import guest, rows, tabulate
from lab.locations import REPOSITORY, write_whole
from lab.progress import progress
from lab.scenarios import Scenario
from lab.errors import EXIT_INTERRUPTED, EXIT_KERNEL_LOG

# Enough for a median; the matrix is about the path and the data. A registration covers
# only as many ranges of its source as its size needs: 16K needs more than one.
_HOW = ("--size", "16K", "--mode", "completion", "--iterations", "50", "--duration", "10s", "--repeat", "1")
_TIMEOUT_S = 900
# KASAN and lockdep make the guest several times slower.
_DEBUG_TIMEOUT_S = 3600
_OUTPUT = "output.txt"


def run(scenarios: list[Scenario], out: Path, program: Path, *, debug: bool) -> int:
    """Measure SCENARIOS one after the other; returns 0 if every pair agrees."""
    out.mkdir(parents=True, exist_ok=True)
    done: list[dict] = []
    _save(done, out)
    interrupted = False
    for number, scenario in enumerate(scenarios, start=1):
        progress(f"{number}/{len(scenarios)} {scenario.name}")
        started_s = time.monotonic()
        try:
            made = _measure(scenario, out / scenario.name, program, debug=debug)
        except KeyboardInterrupt:
            interrupted = True
            break
        done += made
        _save(done, out)
        agree = sum(map(rows.agrees, made))
        wall_s = time.monotonic() - started_s
        progress(f"{scenario.name}: {agree} of {len(made)} pairs agree, {wall_s:.0f} s")
    print(tabulate.table(done), end="")
    print(f"\n{tabulate.summary(done)}; saved to {out / 'matrix.json'}")
    if interrupted:
        progress(f"interrupted; the finished scenarios of {len(scenarios)} are saved")
        return EXIT_INTERRUPTED
    return 0 if all(map(rows.agrees, done)) else 1


def _save(done: list[dict], out: Path) -> None:
    write_whole(out / "matrix.json", json.dumps(done, indent=2) + "\n")


def _measure(scenario: Scenario, folder: Path, program: Path, *, debug: bool) -> list[dict]:
    """Boot SCENARIO, measure its pairs, and return its rows."""
    ended = _run_inside(scenario, folder, program, debug=debug)
    if ended.emulator_aborted:
        progress("QEMU aborted; discarding the results of this guest and starting again")
        ended = _run_inside(scenario, folder, program, debug=debug)
    if ended.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return _rows(scenario, folder, program, ended.exit_code)


def _run_inside(scenario: Scenario, folder: Path, program: Path, *, debug: bool) -> guest.Outcome:
    # Remove the results of an earlier guest.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["bash", "-c", _commands(scenario, folder, program)]
    timeout_s = _DEBUG_TIMEOUT_S if debug else _TIMEOUT_S
    output = folder / _OUTPUT
    return guest.run(scenario, command, folder, debug=debug, timeout_s=timeout_s, output=output)


def _commands(scenario: Scenario, folder: Path, program: Path) -> str:
    """Commands for the guest. A failed cell does not fail the command: its row reports it."""
    folder, program = _from_checkout(folder), _from_checkout(program)
    peerpath = shlex.quote(str(program))
    lines = [
        f"{peerpath} snapshot {folder / 'snapshot.tar.gz'} || exit",
        f"{peerpath} paths --json >{folder / 'paths.json'} || exit",
    ]
    for asked in _asked(scenario):
        pairs = [pair for pair in scenario.pairs if pair.asked == asked]
        arguments = ["run"]
        for source in dict.fromkeys(scenario.source(pair) for pair in pairs):
            arguments += ["--from", source]
        for target in dict.fromkeys(pair.to for pair in pairs):
            arguments += ["--to", f"verbs:{target}"]
        arguments += [argument for op in rows.OPS for argument in ("--op", op)]
        arguments += _HOW
        if asked:
            # Only the RDMA under test uses the guest's NICs, so unbinding them is safe.
            arguments += ["--path", asked, "--force-in-use"]
        arguments += ["--out", str(_result_folder(folder, asked))]
        lines.append(f"{peerpath} {shlex.join(arguments)}")
    return "\n".join([*lines, "true"])


def _from_checkout(path: Path) -> Path:
    """The path relative to the checkout, which is the guest's working directory. Results record their
    arguments and are published, so they should not contain a path of this machine."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def _asked(scenario: Scenario) -> list[str | None]:
    """The requested paths, each for a separate run. None (no requested path) comes first."""
    return sorted({pair.asked for pair in scenario.pairs}, key=lambda asked: asked or "")


def _result_folder(folder: Path, asked: str | None) -> Path:
    return folder / asked if asked else folder


def _rows(scenario: Scenario, folder: Path, program: Path, exit_code: int) -> list[dict]:
    paths = _json(folder / "paths.json", None)
    results = {
        asked: _json(_result_folder(folder, asked) / "result.json", {})
        for asked in _asked(scenario)
    }
    wrong = []
    if exit_code != 0:
        why = "kernel warning" if exit_code == EXIT_KERNEL_LOG else f"exit code {exit_code}"
        wrong = [f"the guest failed: {why}; see {folder / 'run.json'} and {_OUTPUT}"]
    differences = None if paths is None else _differences(folder, program, paths)
    made = []
    for pair in scenario.pairs:
        cells = rows.cells_of(scenario, pair, results[pair.asked].get("cells", []))
        row = rows.row(scenario, pair, cells, paths or [])
        row["snapshot_agrees"] = differences == []
        row["guest_disagreements"] = wrong + (differences or [])
        made.append(row)
    return made


def _differences(folder: Path, program: Path, inside: list[dict]) -> list[str]:
    """Differences between `paths` on the snapshot and `paths` in the guest."""
    snapshot = folder / "snapshot.tar.gz"
    done = subprocess.run(
        [program, "paths", "--json", "--root", snapshot], text=True, capture_output=True
    )
    if done.returncode != 0:
        return [f"cannot analyse the snapshot: {done.stderr.strip()}"]
    outside = json.loads(done.stdout)
    if inside == outside:
        return []
    pairs = rows.differing(inside, outside)
    where = ", ".join(pairs) or "order only"
    return [f"`paths` differs between the snapshot and the guest: {where}"]


def _json(path: Path, otherwise):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return otherwise
