//! The journal of host changes, as this version and an earlier one write it.
//!
//! The samples name another boot and a function that does not exist. So `restore` reads every entry and changes nothing on the
//! host. Writing a journal needs a bound function; the crate that writes the journal tests it.

use std::path::Path;

use serde_json::{Value, json};

use crate::golden;
use crate::program::{code, each, peerpath, text};
use crate::shape::{nonsense, pointers};

/// The journals of an earlier version and of this one.
fn samples() -> [Value; 2] {
    ["journal.sample.json", "journal.current.sample.json"]
        .map(|name| serde_json::from_str(&std::fs::read_to_string(golden::file(name)).unwrap()).unwrap())
}

/// Runs `restore` with this journal. Returns its exit code and the journal afterwards.
fn restored(journal: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let file = state.join("journal.json");
    private(&state);
    std::fs::write(&file, journal).unwrap();
    let output = peerpath(&state).arg("restore").output().unwrap();
    let code = code(&output);
    assert!(!text(&output).is_empty());
    (code, std::fs::read_to_string(file).unwrap())
}

/// Creates a private directory, because `restore` rejects a state directory that other users can write to.
fn private(folder: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
}

#[test]
fn restore_reads_a_journal_of_each_version_and_empties_it() {
    for sample in samples() {
        let (code, left) = restored(&sample.to_string());
        assert_eq!(code, 0);
        assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), json!({"version": 1, "entries": []}));
    }
}

/// Proves that `restore` uses every field: it ignores unknown fields, so each field in turn gets a value of an invalid type.
#[test]
fn every_field_of_the_journal_is_read() {
    for sample in samples() {
        let all = pointers(&sample);
        assert!(all.len() > 40, "{} fields", all.len());
        let ignored = each(&all, |pointer| {
            let mut altered = sample.clone();
            *altered.pointer_mut(pointer).unwrap() = nonsense();
            let altered = altered.to_string();
            (restored(&altered) != (4, altered)).then(|| pointer.clone())
        });
        let ignored: Vec<_> = ignored.into_iter().flatten().collect();
        assert!(ignored.is_empty(), "any value is accepted for: {ignored:#?}\n{}", golden::INSTRUCTION);
    }
}

#[test]
fn restore_rejects_an_unknown_journal_with_the_golden_code_and_keeps_it() {
    let [mut newer, mut unknown] = samples();
    newer["version"] = json!(2);
    unknown["entries"][0]["change"]["kind"] = json!("no-such-change");
    let cases = [
        ("another version", newer.to_string()),
        ("an unknown change", unknown.to_string()),
        ("no JSON", "{".to_owned()),
    ];
    let lines = each(&cases, |(name, journal)| {
        let (code, left) = restored(journal);
        assert_eq!(left, *journal, "{name}");
        format!("{code}  {name}\n")
    });
    golden::check("journal.exit_codes.txt", &lines.concat());
}
