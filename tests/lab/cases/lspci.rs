//! Predictions from the output of lspci in the guest never contradict those from the guest's files.

use std::collections::HashMap;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::run;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "the_output_of_lspci_does_not_contradict_the_host",
        scenarios: &["default", "switch-acs"],
        run: compare,
    }]
}

/// Options of lspci, and whether its output shows ACS.
const OUTPUTS: [(&[&str], bool); 4] =
    [(&["-vvv"], true), (&["-xxxx"], true), (&["-vvvnn", "-xxxx", "-D"], true), (&["-nn", "-tv"], false)];

fn compare() -> Result<(), Failed> {
    let here = predictions("paths --json")?;
    for (options, shows_acs) in OUTPUTS {
        let output = Command::new("lspci").args(options).output()?;
        let file = std::env::temp_dir().join(format!("lspci{}.txt", options.concat()));
        std::fs::write(&file, &output.stdout)?;
        let file = file.display();
        let there = predictions(&format!("paths --root {file} --cmdline /proc/cmdline --cpu /proc/cpuinfo --json"))?;
        for (pair, right) in &here {
            // Output without BARs does not show which functions can export.
            let Some(found) = there.get(pair) else { continue };
            let is_same = found["predicted"] == right["predicted"] && found["cause"] == right["cause"];
            let is_topological = right["predicted"] == "bus-address" || right["cause"] == "topology";
            let is_unknown =
                found["predicted"] == "unknown" && found["unknown"].as_array().is_some_and(|facts| !facts.is_empty());
            if !is_same && (!is_unknown || (shows_acs && is_topological)) {
                return Err(format!("lspci {options:?} gives {found:#} instead of {right:#}").into());
            }
        }
        if there.is_empty() && options.contains(&"-vvv") {
            return Err(format!("lspci {options:?} gives no pair").into());
        }
    }
    Ok(())
}

/// The predictions by exporter and importer.
fn predictions(words: &str) -> Result<HashMap<(String, String), Value>, Failed> {
    let ended = run(words)?.expect(0)?;
    let Value::Array(reports) = serde_json::from_str(&ended.stdout)? else {
        return Err("no list of predictions".into());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(reports.into_iter().map(|report| ((text(&report["from"]), text(&report["to"])), report)).collect())
}
