//! Lab tests of the program and the crates on a real kernel in an emulated machine.
//!
//! Without `PEERPATH_LAB=1`, every test is waived. With it, this program builds the programs under test and boots one
//! guest per scenario (several for a scenario with many tests), a few at a time. It then runs itself in each guest, where
//! `PEERPATH_LAB_GUEST` names the scenario and `PEERPATH_LAB_PART` the part of its tests.

mod cases;
mod chance;
mod command;
mod functions;
mod host_state;
mod kernel_log;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test, and the scenarios in which it runs.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) scenarios: &'static [&'static str],
    pub(crate) run: fn() -> Result<(), Failed>,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if let Ok(scenario) = std::env::var("PEERPATH_LAB_GUEST") {
        return inside(&scenario, arguments);
    }
    let asked = std::env::var("PEERPATH_LAB").is_ok_and(|value| value == "1");
    if !asked {
        let reason = "boots a guest, which takes minutes: set PEERPATH_LAB=1";
        let waive = |case: Case| Trial::ignorable_test(case.name, move || Ok(Completion::ignored_with(reason)));
        return libtest_mimic::run(&arguments, cases::all().into_iter().map(waive).collect()).exit_code();
    }
    outside(arguments)
}

/// Runs the tests one after the other, because they share the guest's devices.
fn inside(scenario: &str, arguments: Arguments) -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let part = std::env::var(PART).ok().and_then(|part| Part::parse(&part)).unwrap_or(Part::WHOLE);
    let trials = cases::all()
        .into_iter()
        .filter(|case| case.scenarios.contains(&scenario))
        .enumerate()
        .filter(|(number, _)| number % part.of == part.index)
        .map(|(_, case)| {
            Trial::ignorable_test(case.name, move || match (case.name, command::peerpath_linked().exists()) {
                (cases::NEEDS_THE_LINKED_PROGRAM, false) => {
                    Ok(Completion::ignored_with("the build needs libclang 15 or older"))
                }
                _ => timed(&case).map(|()| Completion::Completed),
            })
        })
        .collect();
    if let Err(error) = command::copy_program_into_guest() {
        eprintln!("error: cannot copy the program into the guest's memory: {error}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    print_slowest();
    conclusion.exit_code()
}

/// Duration of each test, to find the slow ones. No result depends on it.
static TIMES: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());

fn timed(case: &Case) -> Result<(), Failed> {
    let begun = Instant::now();
    let outcome = (case.run)();
    if let Ok(mut times) = TIMES.lock() {
        times.push((begun.elapsed(), case.name));
    }
    outcome
}

fn print_slowest() {
    let Ok(mut times) = TIMES.lock() else { return };
    times.sort_unstable();
    println!("slowest tests:");
    for (time, name) in times.iter().rev().take(8) {
        println!("  {:5.1} s  {name}", time.as_secs_f64());
    }
}

/// Variable that selects the part of a scenario's tests for one guest.
const PART: &str = "PEERPATH_LAB_PART";
/// Scenarios with more tests than this get several guests.
const TESTS_PER_GUEST: usize = 30;
/// Maximum number of guests at a time. A guest keeps about one CPU busy and needs 2 GiB of memory.
const GUESTS_AT_ONCE: usize = 4;

/// A part of a scenario's tests: every `of`-th test, starting at `index`.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    of: usize,
}

impl Part {
    const WHOLE: Self = Self { index: 0, of: 1 };

    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse::<usize>().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then(|| Self { index: number - 1, of })
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

/// Runs one trial per guest. A filter on the command line is passed on to the guest.
fn outside(arguments: Arguments) -> ExitCode {
    if let Err(error) = command::build() {
        eprintln!("error: {}", error.message().unwrap_or("cannot build the programs under test"));
        return ExitCode::from(1);
    }
    let cases = cases::all();
    let mut scenarios: Vec<&str> = cases.iter().flat_map(|case| case.scenarios.iter().copied()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let mut trials = Vec::new();
    for scenario in scenarios {
        // The filter is the name of a scenario, or selects some of its tests.
        let filter = arguments.filter.as_deref().filter(|filter| !scenario.contains(filter));
        let wanted =
            |case: &&Case| case.scenarios.contains(&scenario) && filter.is_none_or(|filter| case.name.contains(filter));
        let tests = cases.iter().filter(wanted).count();
        if tests == 0 {
            continue;
        }
        // A filtered test may be in any part, so run the scenario as one part.
        let parts = if filter.is_some() { 1 } else { tests.div_ceil(TESTS_PER_GUEST) };
        for index in 0..parts {
            let (part, filter) = (Part { index, of: parts }, filter.map(str::to_owned));
            let name = if parts == 1 { scenario.to_owned() } else { format!("{scenario}-{}", index + 1) };
            let folder = name.clone();
            let trial = Trial::test(name, move || boot(&folder, scenario, part, filter.as_deref()));
            trials.push((tests / parts, trial));
        }
    }
    // Start the longest trials first, so that none of them runs alone at the end.
    trials.sort_by_key(|(tests, _)| std::cmp::Reverse(*tests));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let at_once = arguments.test_threads.unwrap_or(processors.min(GUESTS_AT_ONCE));
    let unfiltered = Arguments { filter: None, test_threads: Some(at_once), ..arguments };
    libtest_mimic::run(&unfiltered, trials.into_iter().map(|(_, trial)| trial).collect()).exit_code()
}

/// Timeout for the tests of a guest: the default of `scripts/lab run`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// Runs the tests in a guest; once more if the emulator, not the kernel, ended the guest.
fn boot(name: &str, scenario: &str, part: Part, filter: Option<&str>) -> Result<(), Failed> {
    let outcome = run_guest(name, scenario, part, filter);
    let log = command::lab_folder().join(name).join("dmesg.txt");
    if outcome.is_ok() || !is_emulator_fault(&fs::read_to_string(&log).unwrap_or_default()) {
        return outcome.and_then(|()| kernel_log::explains(&log));
    }
    fs::rename(&log, log.with_file_name("dmesg-emulator-fault.txt"))?;
    println!("{name:>12} | QEMU executed a breakpoint that the kernel had already removed; the guest runs once more");
    run_guest(name, scenario, part, filter)?;
    kernel_log::explains(&log)
}

/// Whether a known fault of QEMU's multi-threaded TCG ended the guest. While the kernel patches a
/// tracepoint, it temporarily replaces an instruction with a breakpoint (int3). A processor that
/// still executes the old translation traps when nothing expects the trap any more. On hardware,
/// the kernel waits for all processors before it removes the breakpoint.
fn is_emulator_fault(kernel_log: &str) -> bool {
    kernel_log.contains("Oops: int3") && !kernel_log.contains("Hypervisor detected: KVM")
}

fn run_guest(name: &str, scenario: &str, part: Part, filter: Option<&str>) -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let mut lab = Command::new(command::repository().join("scripts/lab"));
    lab.args(["run", scenario, "--out"]).arg(command::lab_folder().join(name)).env(PART, part.to_string());
    if cases::debug_kernel() {
        // KASAN and lockdep make the guest several times slower.
        lab.args(["--debug-kernel", "--timeout", "5400"]);
    } else {
        let timeout = DEFAULT_TIMEOUT + cases::soak_length().unwrap_or_default() + cases::signals_length();
        lab.args(["--timeout", &timeout.as_secs().to_string()]);
    }
    lab.arg("--").arg(own).args(filter);
    let mut lab = lab.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (output, errors) = (lab.stdout.take(), lab.stderr.take());
    let failures = thread::scope(|scope| {
        let tests = scope.spawn(|| output.map(|output| forward(name, output)));
        scope.spawn(|| errors.map(|errors| forward(name, errors)));
        tests.join().ok().flatten().unwrap_or_default()
    });
    let status = lab.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("scripts/lab run {scenario} failed with {status}\n{failures}").into())
}

/// Prints lines as they arrive, prefixed with the name of their guest: several guests run at once. Returns what the
/// guest's tests print about their failures: the end of a log then shows them, although other guests printed later.
fn forward(name: &str, output: impl Read) -> String {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    let (mut failures, mut inside) = (String::new(), false);
    while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        println!("{name:>12} | {text}");
        inside = (inside || text == "failures:") && !text.starts_with("test result:");
        if inside {
            failures.push_str(text);
            failures.push('\n');
        }
        line.clear();
    }
    failures
}
