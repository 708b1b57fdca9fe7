//! The HTML report in a browser: it runs no scripts, loads nothing and does not overflow, in both themes and at the widths of a
//! desktop and a phone.
//!
//! Drives headless Chromium through its DevTools protocol over pipes. Without Chromium the tests are waived. Screenshots are
//! kept in `CARGO_TARGET_TMPDIR` for inspection.

mod chromium;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;

use chromium::{Chromium, View};

const PROGRAMS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
const VIEWS: [View; 4] = [
    View { width: 1280, dark: false },
    View { width: 1280, dark: true },
    View { width: 390, dark: false },
    View { width: 390, dark: true },
];
const SECTIONS: [&str; 10] = [
    "summary",
    "matrix",
    "pairs",
    "routes",
    "throughput",
    "latency",
    "registration",
    "not-passed",
    "environment",
    "cells",
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let program = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .flat_map(|folder| PROGRAMS.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    let trials = vec![trial("reference_matrix", program.clone(), matrix), trial("hostile_result", program, hostile)];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &'static str, program: Option<PathBuf>, page: fn(&Path) -> Result<PathBuf, Failed>) -> Trial {
    Trial::ignorable_test(name, move || match program {
        None => Ok(Completion::ignored_with("Chromium not found: install Debian's chromium-headless-shell")),
        Some(program) => {
            let folder = tempfile::tempdir()?;
            let page = page(folder.path())?;
            VIEWS.iter().try_for_each(|view| examine(name, &program, &page, *view))?;
            Ok(Completion::Completed)
        }
    })
}

fn report(results: &Path, out: &Path) -> Result<(), Failed> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_peerpath")).arg("report").arg(results).arg("--out").arg(out).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

fn matrix(folder: &Path) -> Result<PathBuf, Failed> {
    let page = folder.join("report.html");
    report(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/matrix"), &page)?;
    Ok(page)
}

/// A real result with markup and very long names in its text fields.
fn hostile(folder: &Path) -> Result<PathBuf, Failed> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/matrix/default/result.json");
    let mut result: Value = serde_json::from_str(&std::fs::read_to_string(kept)?)?;
    poison(&mut result);
    let file = folder.join("result.json");
    std::fs::write(&file, result.to_string())?;
    let page = folder.join("report.html");
    report(&file, &page)?;
    Ok(page)
}

fn poison(value: &mut Value) {
    const EVIL: &str =
        "<script>document.title='run'</script><img src='http://192.0.2.1/x' onerror=\"document.title='run'\">";
    match value {
        // Keep paths and histograms valid, so that the report draws its pictures and charts.
        Value::String(text)
            if text.len() < 200 && !text.contains("host-") && !text.contains("_source") && text != "passed" =>
        {
            *text = format!("{EVIL}{text}{}", "W".repeat(500));
        }
        Value::Array(list) => list.iter_mut().for_each(poison),
        Value::Object(fields) => fields.values_mut().for_each(poison),
        _ => {}
    }
}

fn examine(name: &str, program: &Path, page: &Path, view: View) -> Result<(), Failed> {
    let mut browser = Chromium::start(program)?;
    browser.open(page, view)?;
    let requested = browser.requested_urls()?;
    let own = format!("file://{}", page.display());
    let foreign: Vec<_> = requested.iter().filter(|url| **url != own && !url.starts_with("data:")).collect();
    check(foreign.is_empty(), || format!("{view:?}: the page requested {foreign:?}"))?;
    check(requested.contains(&own), || format!("{view:?}: the page was not loaded: {requested:?}"))?;
    let logged = browser.logged_errors();
    check(logged.is_empty(), || format!("{view:?}: the browser logged {logged:?}"))?;
    let widths =
        browser.evaluate("[document.documentElement.scrollWidth, innerWidth, document.body.scrollWidth].join(' ')")?;
    let widths: Vec<u32> =
        widths.as_str().unwrap_or_default().split(' ').filter_map(|width| width.parse().ok()).collect();
    check(widths.len() == 3 && widths[0] <= widths[1] && widths[2] <= widths[1] && widths[1] == view.width, || {
        format!("{view:?}: the page scrolls horizontally: {widths:?}")
    })?;
    let sections = browser.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id).join(' ')")?;
    check(sections.as_str() == Some(&SECTIONS.join(" ")), || format!("{view:?}: sections {sections}"))?;
    let empty = browser.evaluate(
        "[...document.querySelectorAll('section')].filter(one => one.innerText.trim().split('\\n').length < 2).length",
    )?;
    check(empty == 0, || format!("{view:?}: {empty} sections contain only a heading"))?;
    let scripts = browser
        .evaluate("document.scripts.length + document.querySelectorAll('img, iframe, object, [onerror]').length")?;
    check(scripts == 0, || format!("{view:?}: {scripts} elements run or load something"))?;
    let background = browser.evaluate("getComputedStyle(document.body).backgroundColor")?;
    let expected = if view.dark { "rgb(20, 23, 27)" } else { "rgb(254, 254, 254)" };
    check(background == expected, || format!("{view:?}: the background is {background}"))?;
    let theme = if view.dark { "dark" } else { "light" };
    let shot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{theme}.png", view.width));
    browser.screenshot(&shot)
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}
