//! Plan files: the options of `run`, as TOML.
//!
//! A key is the long name of an option. A list repeats the option; `true` sets an option without a value. An option
//! on the command line replaces the one in the file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use peerpath_bench::failure::Failure;
use peerpath_paths::input_file;
use toml::{Table, Value};

/// Old and new names of renamed options.
const RENAMED: [(&str, &str); 1] = [("--door", "--vfio")];

/// Maximum length of a plan, in bytes. A longer file is probably not a plan.
const MAX_BYTES: u64 = 1 << 20;

/// The arguments, with the options from the plan file inserted before the other options.
///
/// # Errors
/// The file cannot be read or is not a plan.
pub(super) fn expand(arguments: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let [_, command, file, others @ ..] = arguments else { return Ok(arguments.to_vec()) };
    if command != "run" || file.as_encoded_bytes().starts_with(b"-") {
        return Ok(arguments.to_vec());
    }
    let mut all = arguments[..3].to_vec();
    all.extend(options(&read(Path::new(file))?, others).map_err(|why| invalid(Path::new(file), why))?);
    all.extend_from_slice(others);
    Ok(all)
}

fn read(file: &Path) -> Result<Table, Failure> {
    let bytes = input_file::read(file, MAX_BYTES).map_err(|error| {
        let what = format!("cannot read the plan {}", file.display());
        Failure::unreadable(what, &error, "name a TOML file after `run`; options start with --")
    })?;
    let text = String::from_utf8(bytes).map_err(|error| invalid(file, error.to_string()))?;
    // The text of the error quotes the line, which can be as long as the file.
    text.parse::<Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        invalid(file, format!("line {line}: {}", error.message().replace('\n', ", ")))
    })
}

fn invalid(file: &Path, why: String) -> Failure {
    Failure::bad_input(
        format!("cannot use {} as a plan", file.display()),
        why,
        "use long option names as keys, e.g. from = [\"0000:03:00.0:2\"] and size = [\"4K\", \"1M\"]",
    )
}

/// The options of the file that the command line does not override.
fn options(table: &Table, others: &[OsString]) -> Result<Vec<OsString>, String> {
    let mut options = Vec::new();
    for (key, value) in table {
        let option = format!("--{}", key.replace('_', "-"));
        let renamed = RENAMED.iter().find(|(old, new)| option == *old || option == *new);
        let known = renamed.map_or_else(|| vec![option.as_str()], |(old, new)| vec![old, new]);
        if others.iter().any(|other| known.iter().any(|option| names(other, option))) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            match value {
                Value::Boolean(true) => options.push(option.clone().into()),
                Value::Boolean(false) => {}
                Value::String(text) => options.push(format!("{option}={text}").into()),
                Value::Integer(number) => options.push(format!("{option}={number}").into()),
                Value::Float(number) => options.push(format!("{option}={number}").into()),
                Value::Array(_) | Value::Table(_) | Value::Datetime(_) => {
                    return Err(format!("the value of {key} is not a string, number, boolean or a list of these"));
                }
            }
        }
    }
    Ok(options)
}

/// Whether an argument is this option, with or without `=VALUE`.
fn names(argument: &OsStr, option: &str) -> bool {
    let rest = argument.as_encoded_bytes().strip_prefix(option.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(plan: &str, others: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.toml");
        std::fs::write(&file, plan).unwrap();
        let mut arguments: Vec<OsString> = vec!["peerpath".into(), "run".into(), file.into()];
        arguments.extend(others.iter().map(OsString::from));
        let all = expand(&arguments).map_err(|failure| format!("{} {}", failure.what, failure.explanation.why))?;
        Ok(all[3..].iter().map(|argument| argument.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn command_line_overrides_keys_of_the_file() {
        let plan = "from = 'host:1M'\nsize = ['4K', 65536]\nbidirectional = true\nforce-in-use = false\nqps = 2\n";
        let expected = ["--bidirectional", "--from=host:1M", "--qps=2", "--size=4K", "--size=65536"];
        let mut found = expanded(plan, &[]).unwrap();
        found.sort();
        assert_eq!(found, expected);
        let mut found = expanded(plan, &["--size", "1M", "--qps=4"]).unwrap();
        found.sort();
        assert_eq!(found, ["--bidirectional", "--from=host:1M", "--qps=4", "--size", "1M"]);
    }

    #[test]
    fn the_command_line_overrides_an_option_under_its_old_name() {
        assert_eq!(expanded("door = 'group'", &["--vfio", "cdev"]).unwrap(), ["--vfio", "cdev"]);
        assert_eq!(expanded("vfio = 'group'", &["--door=cdev"]).unwrap(), ["--door=cdev"]);
    }

    #[test]
    fn rejects_an_invalid_plan_with_the_reason() {
        for (plan, why) in
            [("from = ", "as a plan"), ("[table]\nx = 1", "table"), ("size = [[1]]", "size"), ("\0", "as a plan")]
        {
            let error = expanded(plan, &[]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let error = expanded(&format!("to = 'x'\nsize = {}", "[".repeat(100_000)), &[]).unwrap_err();
        assert!(error.contains("line 2: ") && error.len() < 200, "{error}");
        let arguments = ["peerpath", "run", "/nowhere/plan.toml"].map(OsString::from);
        assert!(expand(&arguments).is_err());
        let untouched = ["peerpath", "run", "--from", "x"].map(OsString::from);
        assert_eq!(expand(&untouched).unwrap(), untouched);
    }

    proptest! {
        #[test]
        fn accepts_or_rejects_any_text(text in ".*") {
            let _ = expanded(&text, &[]);
        }
    }
}
