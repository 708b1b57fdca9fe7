//! Plan files: the options of `run`, as TOML.
//!
//! A key is the long name of an option. A list repeats the option; `true` sets an option without a value. An option
//! on the command line replaces the one in the file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use peerpath_bench::failure::Failure;
use peerpath_paths::input_file;
use toml::de::DeTable;
use toml::{Table, Value};

/// Old and new names of renamed options.
const RENAMED: [(&str, &str); 1] = [("--door", "--vfio")];

/// Maximum length of a plan, in bytes. A longer file is probably not a plan.
const MAX_BYTES: u64 = 1 << 20;

/// The arguments, with the options of the plan file inserted.
pub(super) struct Expanded {
    pub(super) arguments: Vec<OsString>,
    pub(super) plan: Option<PlanFile>,
}

/// A plan file, and the line of each key that the command line does not override.
pub(super) struct PlanFile {
    pub(super) file: PathBuf,
    keys: Vec<(String, usize)>,
}

impl PlanFile {
    /// The key and line of an option, by its name without dashes.
    pub(super) fn key_of(&self, option: &str) -> Option<(&str, usize)> {
        let (key, line) = self.keys.iter().find(|(key, _)| key.replace('_', "-") == option)?;
        Some((key, *line))
    }
}

/// The arguments, with the options from the plan file inserted before the other options. `command` is the position of the
/// command.
///
/// # Errors
/// The file cannot be read or is not a plan.
pub(super) fn expand(arguments: &[OsString], command: usize) -> Result<Expanded, Failure> {
    let unchanged = || Expanded { arguments: arguments.to_vec(), plan: None };
    let (Some(name), Some(file)) = (arguments.get(command), arguments.get(command + 1)) else { return Ok(unchanged()) };
    if name != "run" || file.as_encoded_bytes().starts_with(b"-") {
        return Ok(unchanged());
    }
    let (head, others) = arguments.split_at(command + 2);
    let file = PathBuf::from(file);
    let text = read(&file)?;
    let table = text.parse::<Table>().map_err(|error| invalid_toml(&file, &text, &error))?;
    let lines = key_lines(&text);
    let line_of = |key: &str| lines.iter().find(|(name, _)| name == key).map_or(1, |(_, line)| *line);
    let mut plan = PlanFile { file, keys: Vec::new() };
    let mut all = head.to_vec();
    for (key, value) in &table {
        let line = line_of(key);
        let options = options(key, value, others)
            .map_err(|(why, remedy)| Failure::bad_input(cannot_use(&plan.file, line), why, remedy))?;
        if let Some(options) = options {
            plan.keys.push((key.clone(), line));
            all.extend(options);
        }
    }
    all.extend_from_slice(others);
    Ok(Expanded { arguments: all, plan: Some(plan) })
}

pub(super) fn cannot_use(file: &Path, line: usize) -> String {
    format!("cannot use the plan {} (line {line})", file.display())
}

fn read(file: &Path) -> Result<String, Failure> {
    let what = || format!("cannot read the plan {}", file.display());
    let remedy = "name a TOML file after `run`; options start with --";
    let bytes = input_file::read(file, MAX_BYTES)
        .map_err(|error| Failure::unreadable(what(), &error, error.remedy(file, remedy)))?;
    String::from_utf8(bytes).map_err(|_| Failure::bad_input(what(), "it is not a text file", remedy))
}

/// Maximum number of characters of a line that a failure quotes.
const MOST_QUOTED: usize = 40;

/// The failure for a text that is not TOML. The parser's own message assumes knowledge of its grammar.
fn invalid_toml(file: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let start = text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let found: String = text[start..].lines().next().unwrap_or_default().chars().take(MOST_QUOTED).collect();
    Failure::bad_input(
        cannot_use(file, line_at(text, at)),
        format!(
            "{found:?} is not valid TOML at column {}",
            1 + text.get(start..at).unwrap_or_default().chars().count()
        ),
        "write KEY = VALUE lines: the key is a long option, and text is quoted, e.g. size = [\"4K\", \"1M\"]",
    )
}

/// The line of each key. Empty if the text is not TOML.
fn key_lines(text: &str) -> Vec<(String, usize)> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    table.get_ref().keys().map(|key| (key.get_ref().to_string(), line_at(text, key.span().start))).collect()
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The options of a key; `None` if the command line overrides it. An error is the reason and the remedy.
fn options(key: &str, value: &Value, others: &[OsString]) -> Result<Option<Vec<OsString>>, (String, &'static str)> {
    let option = format!("--{}", key.replace('_', "-"));
    if key.starts_with('-')
        || !key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
    {
        return Err((
            format!("{key:?} is not an option of `run`"),
            "use a long option of `peerpath run --help` without its dashes",
        ));
    }
    if ["--help", "--version"].contains(&&option[..]) {
        return Err((format!("{key} is not a parameter of a run"), "omit it"));
    }
    let renamed = RENAMED.iter().find(|(old, new)| option == *old || option == *new);
    let known = renamed.map_or_else(|| vec![option.as_str()], |(old, new)| vec![old, new]);
    if others.iter().any(|other| known.iter().any(|option| names(other, option))) {
        return Ok(None);
    }
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    let mut options = Vec::new();
    for value in values {
        match value {
            Value::Boolean(true) => options.push(option.clone().into()),
            Value::Boolean(false) => {}
            Value::String(text) => options.push(format!("{option}={text}").into()),
            Value::Integer(number) => options.push(format!("{option}={number}").into()),
            Value::Float(number) => options.push(format!("{option}={number}").into()),
            Value::Table(_) => {
                return Err((format!("{key:?} is a table"), "remove its heading: a plan has only KEY = VALUE lines"));
            }
            Value::Array(_) | Value::Datetime(_) => {
                let kind = if value.is_array() { "list of lists" } else { "date" };
                return Err((
                    format!("{key:?} is a {kind}"),
                    "use a string, a number, true, false, or a list of these",
                ));
            }
        }
    }
    Ok(Some(options))
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
        let all =
            expand(&arguments, 1).map_err(|failure| format!("{} {}", failure.what, failure.explanation.why))?.arguments;
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
        for (plan, why) in [
            ("from = ", "not valid TOML"),
            ("\n[table]\nx = 1", "line 2"),
            ("size = [[1]]", "size"),
            ("\0", "not valid TOML"),
            ("\nhelp = true", "line 2"),
        ] {
            let error = expanded(plan, &[]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let error = expanded(&format!("to = 'x'\nsize = {}", "[".repeat(100_000)), &[]).unwrap_err();
        assert!(error.contains("(line 2)") && error.len() < 200, "{error}");
        let arguments = ["peerpath", "run", "/nowhere/plan.toml"].map(OsString::from);
        assert!(expand(&arguments, 1).is_err());
        let untouched = ["peerpath", "run", "--from", "x"].map(OsString::from);
        assert_eq!(expand(&untouched, 1).unwrap().arguments, untouched);
    }

    proptest! {
        #[test]
        fn accepts_or_rejects_any_text(text in ".*") {
            let _ = expanded(&text, &[]);
        }
    }
}
