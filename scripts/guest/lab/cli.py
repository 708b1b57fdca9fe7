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
from lab.rules import check_rules
from lab.locations import REPOSITORY
from lab.errors import (
    EXIT_GUEST_DIED,
    EXIT_INTERRUPTED,
    EXIT_KERNEL_LOG,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    LabError,
)

_EXIT_CODES = f"""\
exit code of run: the exit code of CMD, or
  {EXIT_KERNEL_LOG}   the kernel log holds a warning, whatever CMD returned
  {EXIT_GUEST_DIED}   the guest stopped before CMD exited
  {EXIT_TIMEOUT}  the guest did not stop within --timeout
"""

_COSTS = """\
Needs      what `scripts/setup` installs; a C compiler and 3 GB of disk for the first build of the kernel. No RDMA hardware,
           no root, no KVM; KVM is used if it works.
Time       the first guest: about 10 minutes on 2 cores to build its kernel. Later guests boot in less than a minute, even
           without KVM.
Download   160 MB of kernel source from Debian's archive, 3 MB from PyPI (virtme-ng), once
Disk       250 MB in ~/.cache/peerpath. Each running guest uses 2 GB of memory.

`scripts/lab COMMAND --help` describes a command; scripts/guest/README.md describes the lab.

  scripts/lab run default -- uname -a
  scripts/lab run default --out /tmp/out -- target/release/peerpath list
  scripts/lab matrix switch-acs bypass --out /tmp/matrix
"""


def main(arguments: list[str] | None = None) -> int:
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = _parser()
    options, command = _split(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(options)
    try:
        if chosen.act is _run:
            return _run(chosen, command)
        if command:
            parser.error(f"{chosen.subcommand} takes no command after --")
        code = chosen.act(chosen)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if chosen.act is _run:
            raise
        # The reader of a pipe such as `| head` has all the lines that it wants. Python would report the pipe again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("scripts/lab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our options, and the guest's command, which follows the first --."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Runs commands in a small Linux guest with emulated PCI devices.",
        epilog=_COSTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")

    listing = subcommands.add_parser("list", help="list the scenarios: guests with their devices, topology and kernel command line")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(act=_list)

    running = subcommands.add_parser(
        "run",
        help="boot the guest of a scenario and run a command in it",
        usage="scripts/lab run SCENARIO [--debug-kernel] [--out DIR] [--timeout S] -- CMD...",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    running.add_argument("scenario", metavar="SCENARIO", help="see `scripts/lab list`")
    running.add_argument(
        "--debug-kernel",
        action="store_true",
        default=os.environ.get("PEERPATH_LAB_DEBUG_KERNEL") == "1",
        help="boot a kernel with lockdep and KASAN [env: PEERPATH_LAB_DEBUG_KERNEL=1]",
    )
    running.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for dmesg.txt, console.txt and run.json; writable in the guest "
        "[default: results/UTC-TIME-lab-SCENARIO]",
    )
    running.add_argument(
        "--timeout",
        type=int,
        default=1800,
        metavar="S",
        help="kill the guest after S seconds [default: %(default)s]",
    )
    running.set_defaults(act=_run)

    comparing = subcommands.add_parser(
        "matrix",
        help="compare the predicted and the observed path in every scenario",
        usage="scripts/lab matrix [SCENARIO...] [--debug-kernel] [--program FILE] --out DIR",
        epilog="exit code: 0 if expectation, prediction and observation agree on every pair, else 1",
    )
    comparing.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="[default: every scenario with pairs]"
    )
    comparing.add_argument(
        "--debug-kernel",
        action="store_true",
        default=os.environ.get("PEERPATH_LAB_DEBUG_KERNEL") == "1",
        help="boot a kernel with lockdep and KASAN [env: PEERPATH_LAB_DEBUG_KERNEL=1]",
    )
    comparing.add_argument(
        "--program", type=Path, metavar="FILE", help="run this peerpath instead of building it"
    )
    comparing.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder for matrix.json and one folder per scenario; earlier results of these scenarios are replaced",
    )
    comparing.set_defaults(act=_matrix)

    beside = subcommands.add_parser(
        "perftest",
        help="compare peerpath with perftest on one soft-RoCE device",
        usage="scripts/lab perftest [--rounds N] [--program FILE] --out DIR",
        epilog="exit code: 0 if every ratio is within its limit, else 1",
    )
    beside.add_argument(
        "--rounds",
        type=int,
        default=perftest.ROUNDS,
        metavar="N",
        help="rounds of all tests with both tools [default: %(default)s]",
    )
    beside.add_argument(
        "--program", type=Path, metavar="FILE", help="run this peerpath instead of building it"
    )
    beside.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder for perftest.json and, in runs/, the output of both tools",
    )
    beside.set_defaults(act=_perftest)

    building = subcommands.add_parser(
        "kernel", help="print the path of the guest's kernel, and build the kernel if necessary"
    )
    building.add_argument(
        "--debug-kernel", action="store_true", help="use the kernel with lockdep and KASAN"
    )
    building.add_argument(
        "--update", action="store_true", help="first look for a newer source in Debian's archive"
    )
    building.set_defaults(act=_kernel)

    checking = subcommands.add_parser(
        "check-patches",
        help="check that our kernel changes apply to every kernel series in Debian's archive",
    )
    checking.set_defaults(act=_check_patches)

    rules = subcommands.add_parser(
        "check-rules",
        help="check that peerpath's tables of kernel rules match every kernel series in Debian's archive",
    )
    rules.set_defaults(act=_check_rules)
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
            print(f"    prepare       {line}")
        for function in scenario.functions:
            under = f"; {function.rdma} runs on it" if function.rdma else ""
            print(f"    {function.bdf}  {function.name}: {function.about}{under}")
        for pair in scenario.pairs:
            asked = f", requested {pair.asked}" if pair.asked else ""
            why = f" ({pair.cause})" if pair.cause else ""
            blocked = f", but blocked ({pair.blocked})" if pair.blocked else ""
            print(f"    expected      {pair.label}{asked}: {pair.expect}{why}{blocked}")
        print()
    return 0


def _run(chosen: argparse.Namespace, command: list[str]) -> int:
    if not command:
        raise LabError(
            "Cannot run the guest: no command. Put the command after --, e.g. "
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
        raise LabError("Invalid --rounds: it must be at least 1.", exit_code=EXIT_USAGE)
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


def _check_rules(_chosen: argparse.Namespace) -> int:
    verdicts = check_rules()
    for source, wrong, newer in verdicts:
        print(f"{source}: {'differs' if wrong else 'matches'}{' (newer than the tables)' if newer else ''}")
        for difference in wrong:
            print(f"    {difference}")
    return 1 if any(wrong for _, wrong, _ in verdicts) else 0
