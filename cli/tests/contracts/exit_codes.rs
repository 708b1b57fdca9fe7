//! Exit codes: 0 done, 1 failed, 2 bad input, 3 this host cannot do it, 4 an I/O error.
//!
//! The golden file lists the commands to run; `PEERPATH_BLESS=1` rewrites only their codes.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::golden;
use crate::program::{Gpu, code, each};

/// Values that replace the placeholders in braces in the golden file.
struct Names(HashMap<&'static str, String>);

impl Names {
    fn new(folder: &Path) -> Self {
        let put = |name: &str, bytes: &[u8]| {
            let file = folder.join(name);
            std::fs::write(&file, bytes).unwrap();
            file.to_str().unwrap().to_owned()
        };
        let kept = |name: &str| golden::workspace().join(name).to_str().unwrap().to_owned();
        let mut base: Value = crate::result_file::read(&golden::workspace().join("results/reference/nvme/result.json"));
        crate::json_output::repeat(&mut base);
        let result = |name: &str, change: &dyn Fn(&mut Value)| {
            let mut result = base.clone();
            change(&mut result);
            put(name, result.to_string().as_bytes())
        };
        let results = |name: &str| {
            std::fs::create_dir(folder.join(name)).unwrap();
            result(&format!("{name}/result.json"), &|_| {});
            folder.join(name).to_str().unwrap().to_owned()
        };
        let slower = |result: &mut Value| crate::json_output::scale_throughput(result, 0.5);
        Self(HashMap::from([
            ("{base}", result("base.json", &|_| {})),
            ("{slower}", result("slower.json", &slower)),
            ("{hardware}", result("hardware.json", &|result| result["environment"]["emulated"] = json!(false))),
            ("{no-result}", put("no-result.json", b"[]")),
            ("{snapshot}", kept("paths/tests/fixtures/truth/01_switch_epyc.tar.gz")),
            ("{no-snapshot}", put("no-snapshot.tar.gz", b"not an archive")),
            (
                "{plan}",
                put("plan.toml", b"from = [\"host:64K\"]\nto = [\"cuda:0\"]\nop = [\"copy_in\"]\nsize = [\"4K\"]\n"),
            ),
            ("{no-plan}", put("no-plan.toml", b"from = [")),
            ("{results}", results("results")),
            ("{replaced}", results("replaced")),
            ("{missing}", folder.join("missing").to_str().unwrap().to_owned()),
            ("{unwritable}", "/proc/nowhere".to_owned()),
        ]))
    }

    fn fill_in(&self, word: &str, out: &Path) -> String {
        let mut word = word.replace("{out}", out.to_str().unwrap());
        for (name, value) in &self.0 {
            word = word.replace(name, value);
        }
        word
    }
}

/// Each line of the golden file is `CODE  [gpu=SETTINGS] ARGUMENT...`.
#[test]
fn exit_codes_are_those_of_the_golden_table() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::new(folder.path());
    let text = golden::read("exit_codes.txt");
    let lines: Vec<_> = text.lines().collect();
    let actual = each(&lines, |line| {
        let Some((_, call)) = line.split_once("  ").filter(|_| !line.starts_with('#')) else {
            return (*line).to_owned();
        };
        let gpu = Gpu::new();
        let mut words = call.split_whitespace().peekable();
        let settings = words.next_if(|word| word.starts_with("gpu=")).map_or("gpus=0", |word| &word[4..]);
        let arguments: Vec<_> = words.map(|word| names.fill_in(word, &gpu.place("out"))).collect();
        let output = gpu.peerpath(settings).args(arguments).current_dir(folder.path()).output().unwrap();
        format!("{}  {call}", code(&output))
    });
    golden::check("exit_codes.txt", &(actual.join("\n") + "\n"));
    for expected in 0..=4 {
        assert!(actual.iter().any(|line| line.starts_with(&expected.to_string())), "nothing ends with {expected}");
    }
}
