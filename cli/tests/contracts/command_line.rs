//! Commands, the options of each, and the enumerated values of options.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::golden;
use crate::program::{code, each, run, text};

fn help(command: &[&str]) -> String {
    let output = run(&[command, &["--help"]].concat());
    assert_eq!(code(&output), 0, "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn commands() -> Vec<String> {
    let help = help(&[]);
    let listed = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names =
        listed.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.retain(|name| name != "help");
    names.sort();
    names
}

/// The names of each option, the long one first, followed by ` <>` if the option has a value.
fn options(help: &str) -> BTreeSet<String> {
    let option = |line: &str| {
        // A line of prose has a different indentation, or continues with text instead of a value or a gap.
        let is_option = line.starts_with("  -") || line.starts_with("      --");
        let head = line.trim_start().split("  ").next().filter(|_| is_option)?;
        let (mut names, values): (Vec<_>, Vec<_>) = head.split(' ').partition(|part| part.starts_with('-'));
        let takes_value = match values[..] {
            [] => false,
            [value] if value.starts_with(['<', '[']) => true,
            _ => return None,
        };
        names.iter_mut().for_each(|name| *name = name.trim_end_matches(','));
        names.sort_by_key(|name| !name.starts_with("--"));
        Some(names.join(" ") + if takes_value { " <>" } else { "" })
    };
    help.lines().filter_map(option).collect()
}

/// The usage line without the names of values, which may change.
fn usage(help: &str) -> String {
    let line = help.lines().find_map(|line| line.strip_prefix("Usage: peerpath ")).expect("a usage line");
    let word = |word: &str| {
        let end = if word.ends_with("...") { "..." } else { "" };
        match word.as_bytes().first() {
            Some(b'<') => format!("<>{end}"),
            Some(b'[') if !["[OPTIONS]", "[COMMAND]"].contains(&word) => format!("[]{end}"),
            _ => word.to_owned(),
        }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_and_options_are_those_of_the_golden_list() {
    let mut actual = "# Usage and options of each command. `<>` is a value.\n".to_owned();
    for options in each(&commands(), |command| {
        let help = help(&[command]);
        let mut lines = format!("\n{}\n", usage(&help));
        for option in options(&help) {
            let _ = writeln!(lines, "{command} {option}");
        }
        lines
    }) {
        actual += &options;
    }
    golden::check("options.txt", &actual);
}

/// clap reads arguments in order: it prints the help for a `--help` at the end only if it accepts all arguments before it. So no
/// command runs.
fn is_accepted(arguments: &[&str]) -> bool {
    let output = run(&[arguments, &["--help"]].concat());
    match code(&output) {
        0 => true,
        2 => false,
        other => panic!("{arguments:?} --help ends with {other}: {}", text(&output)),
    }
}

/// Each line of the golden file is `COMMAND --option[=VALUE]`.
#[test]
fn names_of_earlier_versions_are_still_accepted() {
    let text = golden::read("aliases.txt");
    let lines: Vec<_> = golden::lines(&text).collect();
    let accepted = each(&lines, |line| is_accepted(&line.split_whitespace().collect::<Vec<_>>()));
    let rejected: Vec<_> = lines.iter().zip(accepted).filter(|(_, accepted)| !accepted).map(|(line, _)| line).collect();
    assert!(rejected.is_empty(), "no longer accepted: {rejected:#?}\n{}", golden::INSTRUCTION);
    assert!(!is_accepted(&["run", "--no-such-option=1"]), "clap rejects an unknown option");
    assert!(!is_accepted(&["no-such-command"]), "clap rejects an unknown command");
}

/// A value that no option accepts.
const UNKNOWN: &str = "no-such-word";

/// Each line of the golden file is `COMMAND --option  WORD...`. A new word need not be listed; a listed word must stay valid.
#[test]
fn options_accept_the_words_of_the_golden_list_and_reject_unknown_ones() {
    let text = golden::read("words.txt");
    let cases: Vec<(&str, String)> = golden::lines(&text)
        .flat_map(|line| {
            let mut parts = line.split_whitespace();
            let (command, option) = (parts.next().unwrap(), parts.next().unwrap());
            parts.chain([UNKNOWN]).map(move |word| (command, format!("{option}={word}")))
        })
        .collect();
    assert!(cases.len() > 60, "{} cases", cases.len());
    let understood = each(&cases, |(command, option)| is_accepted(&[command, option]));
    let wrong =
        cases.iter().zip(understood).filter(|((_, option), understood)| *understood == option.ends_with(UNKNOWN));
    let wrong: Vec<_> = wrong
        .map(|((command, option), understood)| {
            format!("{command} {option} is {}", if understood { "accepted" } else { "rejected" })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", golden::INSTRUCTION);
}
