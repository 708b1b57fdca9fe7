//! Commands, the options of each, and the words that options take.

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

/// `-h, --help` and the like at the beginning of a line of a help text; ` <>` behind those that take a value.
fn options(help: &str) -> BTreeSet<String> {
    let option = |line: &str| {
        let line = line.trim_start();
        let mut names = Vec::new();
        let mut takes_value = false;
        if !line.starts_with('-') {
            return None;
        }
        for part in line.split_whitespace() {
            match part.trim_end_matches(',') {
                name if name.starts_with('-') => names.push(name.to_owned()),
                value => {
                    takes_value = value.starts_with('<') || value.starts_with('[');
                    break;
                }
            }
        }
        // Long names first: they are what people look for.
        names.sort_by_key(|name| !name.starts_with("--"));
        Some(names.join(" ") + if takes_value { " <>" } else { "" })
    };
    help.lines().filter_map(option).collect()
}

/// The usage line with the names of values left out, which may change.
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

/// clap reads arguments in order, so that `--help` at the end is answered only where all before it was understood. Nothing runs.
fn is_understood(arguments: &[&str]) -> bool {
    let output = run(&[arguments, &["--help"]].concat());
    match code(&output) {
        0 => true,
        2 => false,
        other => panic!("{arguments:?} --help ends with {other}: {}", text(&output)),
    }
}

/// `COMMAND --option[=VALUE]`, a line each.
#[test]
fn names_of_earlier_versions_are_still_accepted() {
    let text = golden::read("aliases.txt");
    let lines: Vec<_> = golden::lines(&text).collect();
    let accepted = each(&lines, |line| is_understood(&line.split_whitespace().collect::<Vec<_>>()));
    let refused: Vec<_> = lines.iter().zip(accepted).filter(|(_, accepted)| !accepted).map(|(line, _)| line).collect();
    assert!(refused.is_empty(), "no longer accepted: {refused:#?}\n{}", golden::INSTRUCTION);
    assert!(!is_understood(&["run", "--no-such-option=1"]), "an unknown option has to be refused");
    assert!(!is_understood(&["no-such-command"]), "an unknown command has to be refused");
}

/// `COMMAND --option  WORD...`, a line each. Words may be added; what is listed stays.
#[test]
fn options_take_the_words_of_the_golden_list_and_no_others() {
    let text = golden::read("words.txt");
    let mut wrong = Vec::new();
    let mut cases: Vec<(Vec<&str>, bool)> = Vec::new();
    let joined: Vec<(&str, String)> = golden::lines(&text)
        .flat_map(|line| {
            let mut parts = line.split_whitespace();
            let (command, option) = (parts.next().unwrap(), parts.next().unwrap());
            let words: Vec<_> =
                parts.chain(["no-such-word"]).map(move |word| (command, format!("{option}={word}"))).collect();
            words
        })
        .collect();
    for (command, option) in &joined {
        cases.push((vec![command, option], !option.ends_with("=no-such-word")));
    }
    assert!(cases.len() > 20, "{} cases", cases.len());
    for ((arguments, expected), understood) in cases.iter().zip(each(&cases, |(arguments, _)| is_understood(arguments)))
    {
        if *expected != understood {
            wrong.push(format!("{} is {}", arguments.join(" "), if understood { "accepted" } else { "refused" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", golden::INSTRUCTION);
}
