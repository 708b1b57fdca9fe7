"""The command line of scripts/lab."""

import argparse
import datetime
import json
import os
import signal
import sys
from pathlib import Path

from lab import guest, matrix, perftest, program, scenarios
from lab.kernel import check_changes, kernel
from lab.places import REPOSITORY
from lab.trouble import (
    EXIT_GUEST_DIED,
    EXIT_INTERRUPTED,
    EXIT_KERNEL_LOG,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    Trouble,
)

_EXIT_CODES = f"""\
exit code of run: that of CMD, or
  {EXIT_KERNEL_LOG}   the kernel warned in its log, whatever CMD said
  {EXIT_GUEST_DIED}   the guest ended before CMD did
  {EXIT_TIMEOUT}  the guest did not end in time
"""


def main(arguments: list[str] | None = None) -> int:
    # A polite kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = _parser()
    options, command = _split(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(options)
    try:
        if chosen.act is _run:
            return _run(chosen, command)
        if command:
            parser.error(f"{chosen.subcommand} takes no command after --")
        return chosen.act(chosen)
    except Trouble as trouble:
        print(f"scripts/lab: {trouble}", file=sys.stderr)
        return trouble.exit_code
    except KeyboardInterrupt:
        print("scripts/lab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our options and the guest's command, which stands behind the first --."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Runs commands in a small Linux guest with emulated PCI devices.",
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")

    listing = subcommands.add_parser("list", help="the scenarios and what each shows")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(act=_list)

    running = subcommands.add_parser(
        "run",
        help="boot a scenario and run a command in it",
        usage="scripts/lab run SCENARIO [--debug-kernel] [--out DIR] [--timeout S] -- CMD...",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    running.add_argument("scenario", metavar="SCENARIO")
    running.add_argument(
        "--debug-kernel",
        action="store_true",
        default=os.environ.get("PEERPATH_LAB_DEBUG_KERNEL") == "1",
        help="with lockdep and KASAN; PEERPATH_LAB_DEBUG_KERNEL=1 in the environment does the same",
    )
    running.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="writable in the guest; takes dmesg.txt, console.txt and run.json "
        "(default: results/UTC-TIME-lab-SCENARIO)",
    )
    running.add_argument(
        "--timeout", type=int, default=1800, metavar="S", help="seconds (default: %(default)s)"
    )
    running.set_defaults(act=_run)

    comparing = subcommands.add_parser(
        "matrix",
        help="what is predicted and what is observed, in every scenario",
        usage="scripts/lab matrix [SCENARIO...] [--debug-kernel] [--program FILE] --out DIR",
        epilog="exit code: 0 when scenario, prediction and observation agree on every pair, else 1",
    )
    comparing.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="(default: every one that has pairs)"
    )
    comparing.add_argument(
        "--debug-kernel",
        action="store_true",
        default=os.environ.get("PEERPATH_LAB_DEBUG_KERNEL") == "1",
        help="with lockdep and KASAN",
    )
    comparing.add_argument(
        "--program", type=Path, metavar="FILE", help="peerpath, instead of building it"
    )
    comparing.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="takes matrix.json and a folder a scenario",
    )
    comparing.set_defaults(act=_matrix)

    beside = subcommands.add_parser(
        "perftest",
        help="peerpath side by side with perftest, in turns, on one soft-RoCE device",
        usage="scripts/lab perftest [--rounds N] [--program FILE] --out DIR",
        epilog="exit code: 0 when peerpath falls short of perftest nowhere, else 1",
    )
    beside.add_argument(
        "--rounds",
        type=int,
        default=perftest.ROUNDS,
        metavar="N",
        help="of every test with both tools (default: %(default)s)",
    )
    beside.add_argument(
        "--program", type=Path, metavar="FILE", help="peerpath, instead of building it"
    )
    beside.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="takes perftest.json, and under runs/ what both tools printed",
    )
    beside.set_defaults(act=_perftest)

    building = subcommands.add_parser("kernel", help="path of the guest's kernel, built if needed")
    building.add_argument("--debug-kernel", action="store_true", help="with lockdep and KASAN")
    building.add_argument(
        "--update", action="store_true", help="look for a newer source in the archive first"
    )
    building.set_defaults(act=_kernel)

    checking = subcommands.add_parser(
        "check-patches", help="do our kernel changes apply to every kernel the archive has?"
    )
    checking.set_defaults(act=_check_patches)
    return parser


def _list(chosen: argparse.Namespace) -> int:
    known = [scenarios.load(name) for name in scenarios.names()]
    if chosen.json:
        print(json.dumps([scenario.as_json() for scenario in known], indent=2))
        return 0
    for scenario in known:
        print(f"{scenario.name}: {scenario.about}")
        print(f"    shows         {scenario.shows}")
        print(f"    command line  {' '.join(scenario.command_line)}")
        for line in scenario.prepare:
            print(f"    prepared by   {line}")
        for function in scenario.functions:
            under = f", under {function.rdma}" if function.rdma else ""
            print(f"    {function.bdf}  {function.name}: {function.about}{under}")
        for pair in scenario.pairs:
            asked = f", asked for {pair.asked}" if pair.asked else ""
            why = f" ({pair.cause})" if pair.cause else ""
            blocked = f", but blocked ({pair.blocked})" if pair.blocked else ""
            print(f"    expected      {pair.label}{asked}: {pair.expect}{why}{blocked}")
        print()
    return 0


def _run(chosen: argparse.Namespace, command: list[str]) -> int:
    if not command:
        raise Trouble(
            "No command to run in the guest. Put it behind --, as in "
            "`scripts/lab run default -- uname -a`.",
            exit_code=EXIT_USAGE,
        )
    scenario = scenarios.load(chosen.scenario)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    out = chosen.out or REPOSITORY / "results" / f"{now}-lab-{scenario.name}"
    outcome = guest.run(
        scenario, command, out.resolve(), debug=chosen.debug_kernel, timeout_s=chosen.timeout
    )
    return outcome.exit_code


def _matrix(chosen: argparse.Namespace) -> int:
    wanted = [scenarios.load(name) for name in chosen.scenarios or scenarios.names()]
    out = chosen.out.resolve()
    guest.check_shareable([out])
    measured = [scenario for scenario in wanted if scenario.pairs]
    return matrix.run(measured, out, _program(chosen), debug=chosen.debug_kernel)


def _perftest(chosen: argparse.Namespace) -> int:
    if chosen.rounds < 1:
        raise Trouble("--rounds has to be at least 1.", exit_code=EXIT_USAGE)
    out = chosen.out.resolve()
    guest.check_shareable([out])
    return perftest.run(out, _program(chosen), rounds=chosen.rounds)


def _program(chosen: argparse.Namespace) -> Path:
    return chosen.program.resolve() if chosen.program else program.build()


def _kernel(chosen: argparse.Namespace) -> int:
    print(kernel(debug=chosen.debug_kernel, look_for_newer=chosen.update).image)
    return 0


def _check_patches(_chosen: argparse.Namespace) -> int:
    verdicts = check_changes()
    for source, wrong in verdicts:
        print(f"{source}: {wrong or 'applies'}")
    return 1 if any(wrong for _, wrong in verdicts) else 0
