//! A run detects that another process changes a byte of the BAR.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{cells, result, run};
use crate::functions::{EXPORTER, bar_file};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "detects_a_changed_guard_byte", scenarios: &["default"], run: || corrupt(100, "write") },
        Case {
            name: "detects_a_changed_byte_under_a_write",
            scenarios: &["default"],
            run: || corrupt(4096 + 17, "write"),
        },
        Case {
            name: "detects_a_changed_byte_under_a_read",
            scenarios: &["default"],
            run: || corrupt(4096 + 17, "read"),
        },
    ]
}

/// Maps the BAR through sysfs and changes one of its bytes continuously.
const CORRUPTER: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as bar, mmap.mmap(bar.fileno(), 1 << 20) as memory:
    offset = int(sys.argv[2])
    print('ready', flush=True)
    while True:
        memory[offset] = (memory[offset] + 1) % 256
";

struct Corrupter(Child);

impl Corrupter {
    fn start(offset: u64) -> Result<Self, Failed> {
        let mut child = Command::new("python3")
            .args(["-c", CORRUPTER])
            .arg(bar_file(EXPORTER, 2))
            .arg(offset.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let corrupter = Self(child);
        let mut ready = String::new();
        BufReader::new(stdout.ok_or("no output to read")?).read_line(&mut ready)?;
        if ready.trim() == "ready" {
            Ok(corrupter)
        } else {
            Err(format!("the corrupting process printed {ready:?}").into())
        }
    }
}

impl Drop for Corrupter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn corrupt(offset: u64, op: &str) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    // Writes take effect only while the run has the function open.
    let _corrupter = Corrupter::start(offset)?;
    // In a large transfer, there is time to change the byte after its write and before the completion.
    run(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op {op} --mode completion --size 1M --iterations 5 --warmup 0 \
         --out {folder}"
    ))?
    .expect(1)?;
    let result = result(out.path())?;
    let cell = &cells(&result)[0];
    if cell["outcome"] == "failed" && cell["cause"] == "data-mismatch" && cell["verified_bytes"].is_null() {
        Ok(())
    } else {
        Err(format!("expected a failed cell: {cell:#}").into())
    }
}
