//! Tests in the lab: the real binary and the real crates against a real kernel in an emulated machine.
//!
//! Without `PEERPATH_LAB=1` every test is waived. With it this program builds what it needs, boots each scenario once
//! and runs itself inside, where `PEERPATH_LAB_GUEST` names the scenario; there it runs that scenario's tests.

mod cases;
mod command;
mod functions;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test and the scenarios that it runs in.
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

/// One after the other: they share the guest's devices.
fn inside(scenario: &str, arguments: Arguments) -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let trials = cases::all()
        .into_iter()
        .filter(|case| case.scenarios.contains(&scenario))
        .map(|case| {
            Trial::ignorable_test(case.name, move || match (case.name, command::peerpath_linked().exists()) {
                (cases::NEEDS_THE_LINKED_PROGRAM, false) => {
                    Ok(Completion::ignored_with("building it needs libclang 15 or older"))
                }
                _ => timed(&case).map(|()| Completion::Completed),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    tell_slowest();
    conclusion.exit_code()
}

/// How long each test took. Nothing depends on it: it is for whoever has to keep all of them together short.
static TIMES: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());

fn timed(case: &Case) -> Result<(), Failed> {
    let begun = Instant::now();
    let outcome = (case.run)();
    if let Ok(mut times) = TIMES.lock() {
        times.push((begun.elapsed(), case.name));
    }
    outcome
}

fn tell_slowest() {
    let Ok(mut times) = TIMES.lock() else { return };
    times.sort_unstable();
    println!("the slowest:");
    for (time, name) in times.iter().rev().take(8) {
        println!("  {:5.1} s  {name}", time.as_secs_f64());
    }
}

/// A trial a scenario; a filter on the command line goes on into the guest.
fn outside(arguments: Arguments) -> ExitCode {
    let mut scenarios: Vec<&str> = cases::all().iter().flat_map(|case| case.scenarios.iter().copied()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    if let Err(error) = command::build() {
        eprintln!("error: {}", error.message().unwrap_or("the binaries under test could not be built"));
        return ExitCode::from(1);
    }
    let filter = arguments.filter.clone();
    let wanted = |scenario: &str| {
        filter.as_deref().is_none_or(|filter| {
            scenario.contains(filter)
                || cases::all().iter().any(|case| case.name.contains(filter) && case.scenarios.contains(&scenario))
        })
    };
    let trials = scenarios.into_iter().filter(|scenario| wanted(scenario)).map(|scenario| {
        let filter = filter.clone().filter(|filter| !scenario.contains(filter.as_str()));
        Trial::test(scenario, move || boot(scenario, filter.as_deref()))
    });
    let unfiltered = Arguments { filter: None, test_threads: Some(1), ..arguments };
    libtest_mimic::run(&unfiltered, trials.collect()).exit_code()
}

/// What the tests of a guest may take, as `scripts/lab run` has it.
const ORDINARY: Duration = Duration::from_secs(1800);

fn boot(scenario: &str, filter: Option<&str>) -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let mut lab = Command::new(command::repository().join("scripts/lab"));
    lab.args(["run", scenario]);
    if cases::debug_kernel() {
        // Checking every access and every lock makes it several times slower.
        lab.args(["--debug-kernel", "--timeout", "5400"]);
    } else if let Some(length) = cases::soak_length() {
        lab.args(["--timeout", &(length + ORDINARY).as_secs().to_string()]);
    }
    lab.arg("--").arg(own).args(filter);
    let status = lab.status()?;
    if status.success() { Ok(()) } else { Err(format!("scripts/lab run {scenario} ended with {status}").into()) }
}
