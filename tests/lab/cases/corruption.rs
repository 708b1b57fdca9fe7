//! A byte of the BAR that changes behind the run's back is found.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{cells, result, run};
use crate::functions::{EXPORTER, bar_file};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "a_changed_byte_beside_the_data_is_found",
            scenarios: &["default"],
            run: || corrupt(100, "write"),
        },
        Case {
            name: "a_changed_byte_under_a_write_is_found",
            scenarios: &["default"],
            run: || corrupt(4096 + 17, "write"),
        },
        Case {
            name: "a_changed_byte_under_a_read_is_found",
            scenarios: &["default"],
            run: || corrupt(4096 + 17, "read"),
        },
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

impl Vandal {
    fn start(offset: u64) -> Result<Self, Failed> {
        let mut child = Command::new("python3")
            .args(["-c", VANDAL])
            .arg(bar_file(EXPORTER, 2))
            .arg(offset.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let vandal = Self(child);
        let mut ready = String::new();
        BufReader::new(stdout.ok_or("no output to read")?).read_line(&mut ready)?;
        if ready.trim() == "ready" { Ok(vandal) } else { Err(format!("the vandal said {ready:?}").into()) }
    }
}

impl Drop for Vandal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn corrupt(offset: u64, op: &str) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    // While the function is closed nothing answers, and what is written is lost; once the run opens it, it counts.
    let _vandal = Vandal::start(offset)?;
    // Large transfers: between the last write of the byte and the end of that transfer there is time to change it.
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
        Err(format!("a failed cell was expected: {cell:#}").into())
    }
}
