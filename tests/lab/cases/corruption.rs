//! A byte of the BAR that changes behind the run's back is found.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{cells, result, start, until};
use crate::functions::{EXPORTER, bar_file};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "a_changed_byte_beside_the_data_is_found", scenarios: &["default"], run: || corrupt(100, "write") },
        Case { name: "a_changed_byte_under_a_write_is_found", scenarios: &["default"], run: || corrupt(4096 + 17, "write") },
        Case { name: "a_changed_byte_under_a_read_is_found", scenarios: &["default"], run: || corrupt(4096 + 17, "read") },
    ]
}

/// Maps the BAR through sysfs and never stops changing one byte of it.
const VANDAL: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as bar, mmap.mmap(bar.fileno(), 1 << 20) as memory:
    offset = int(sys.argv[2])
    print('ready', flush=True)
    while True:
        memory[offset] = (memory[offset] + 1) % 256
";

struct Vandal(Child);

impl Drop for Vandal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn corrupt(offset: u64, op: &str) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let running = start(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op {op} --mode completion --size 4K --duration 8s --out {folder}"
    ))?;
    // The empty result is saved first: from then on the function is opened.
    until("the run has begun", || out.path().join("result.json").exists())?;
    let _vandal = Vandal(
        Command::new("python3")
            .args(["-c", VANDAL])
            .arg(bar_file(EXPORTER, 2))
            .arg(offset.to_string())
            .stdout(Stdio::null())
            .spawn()?,
    );
    running.wait()?.expect(1)?;
    let result = result(out.path())?;
    let cell = &cells(&result)[0];
    if cell["outcome"] == "failed" && cell["cause"] == "data-mismatch" && cell["verified_bytes"].is_null() {
        Ok(())
    } else {
        Err(format!("a failed cell was expected: {cell:#}").into())
    }
}
