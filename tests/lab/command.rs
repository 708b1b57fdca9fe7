//! Running the program under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

/// The root of the checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where cargo put this test, and so the program: `target/debug`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

/// The program with libibverbs loaded at run time.
pub(crate) fn peerpath() -> PathBuf {
    profile_folder().join("peerpath")
}

/// The program with libibverbs bound at link time.
pub(crate) fn peerpath_linked() -> PathBuf {
    profile_folder().join("../verbs-link/debug/peerpath")
}

/// The passive side that knows only `docs/wire.md`.
pub(crate) fn independent_peer() -> PathBuf {
    profile_folder().join("../independent-peer/debug/independent-peer")
}

/// The exporter's own check of a kernel against what this project believes of it.
pub(crate) fn vfio_check() -> PathBuf {
    profile_folder().join("examples/vfio_check")
}

/// The exporter's own tests, some of which want a real kernel.
pub(crate) fn exporter_tests() -> PathBuf {
    profile_folder().join("exporter_tests")
}

/// Builds the exporter's tests and leaves them under a name that can be found in the guest: cargo's own has a hash in it.
fn build_exporter_tests(cargo: &str) -> Result<(), Failed> {
    let arguments = ["test", "--package", "peerpath-exporter", "--lib", "--no-run", "--message-format", "json"];
    let output = Command::new(cargo).args(arguments).current_dir(repository()).stderr(Stdio::inherit()).output()?;
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or("the exporter's tests could not be built")?;
    std::fs::copy(built, exporter_tests())?;
    Ok(())
}

/// What of the cost of mapping into an IOAS is this program's own.
pub(crate) fn ioas_overhead() -> PathBuf {
    profile_folder().join("examples/ioas_overhead")
}

/// Where libclang 15 or older lies, which generating the bindings of the linked program needs; not every system has one.
fn old_libclang() -> Option<String> {
    let given = std::env::var("LIBCLANG_PATH").ok();
    let known = ["/usr/lib/llvm-14/lib", "/usr/lib/llvm-15/lib"].map(str::to_owned);
    given.into_iter().chain(known).find(|folder| Path::new(folder).is_dir())
}

/// Builds the programs; cargo built only the tests themselves.
pub(crate) fn build() -> Result<(), Failed> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let profile: &[&str] = if profile_folder().ends_with("release") { &["--release"] } else { &[] };
    let linked = profile_folder().join("../verbs-link");
    let mut plain = Command::new(&cargo);
    plain.args(["build", "--package", "peerpath"]).args(profile);
    let mut link = Command::new(&cargo);
    link.args(["build", "--package", "peerpath", "--no-default-features", "--features", "verbs-link", "--target-dir"]);
    link.arg(linked);
    let mut check = Command::new(&cargo);
    check.args(["build", "--package", "peerpath-exporter", "--example", "vfio_check"]).args(profile);
    let mut overhead = Command::new(&cargo);
    overhead.args(["build", "--package", "peerpath", "--example", "ioas_overhead"]).args(profile);
    let mut peer = Command::new(&cargo);
    peer.args(["build", "--locked", "--manifest-path", "tests/peer/Cargo.toml", "--target-dir"]);
    peer.arg(profile_folder().join("../independent-peer"));
    let mut commands = vec![plain, check, overhead, peer];
    match old_libclang() {
        Some(folder) => {
            link.env("LIBCLANG_PATH", folder);
            commands.push(link);
        }
        // A program of an earlier build would be tested in its place.
        None => drop(std::fs::remove_file(peerpath_linked())),
    }
    for mut command in commands {
        let status = command.current_dir(repository()).status()?;
        if !status.success() {
            return Err(format!("{command:?} ended with {status}").into());
        }
    }
    build_exporter_tests(&cargo)
}

/// A run of the program that ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with everything the program printed unless it ended with `code`.
    pub(crate) fn expect(self, code: i32) -> Result<Self, Failed> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { code: found, stdout, stderr } = self;
        Err(format!("exit code {code} expected, {found:?} found\n--- stdout\n{stdout}\n--- stderr\n{stderr}").into())
    }

    /// Fails unless the errors speak of `what`.
    pub(crate) fn says(self, what: &str) -> Result<Self, Failed> {
        if self.stderr.contains(what) || self.stdout.contains(what) {
            return Ok(self);
        }
        Err(format!("nothing about {what:?} in\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr).into())
    }
}

/// Runs `peerpath` with arguments separated by spaces.
pub(crate) fn run(arguments: &str) -> Result<Ended, Failed> {
    run_program(&peerpath(), arguments)
}

/// Runs a program with arguments separated by spaces.
pub(crate) fn run_program(program: &Path, arguments: &str) -> Result<Ended, Failed> {
    Ok(Ended::from(Command::new(program).args(arguments.split_whitespace()).output()?))
}

/// Runs a command of any kind.
pub(crate) fn run_command(command: &mut Command) -> Result<Ended, Failed> {
    Ok(Ended::from(command.output()?))
}

/// Starts a command of any kind and lets it run.
pub(crate) fn start_command(command: &mut Command) -> Result<Running, Failed> {
    Ok(Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)))
}

/// Starts `peerpath` and lets it run.
pub(crate) fn start(arguments: &str) -> Result<Running, Failed> {
    let child = Command::new(peerpath())
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running(Some(child)))
}

/// A run of the program that goes on; killed if the test ends first.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Failed> {
        let id = self.0.as_ref().map_or(0, Child::id);
        // The shell has a `kill` of its own.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status()?;
        if status.success() { Ok(()) } else { Err("the program is gone".into()) }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    pub(crate) fn wait(mut self) -> Result<Ended, Failed> {
        let child = self.0.take().ok_or("waited for twice")?;
        Ok(Ended::from(child.wait_with_output()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something holds; emulated machines are slow, so the limit is far away and nothing depends on it.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > Duration::from_secs(120) {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The result that a run saved in `folder`.
pub(crate) fn result(folder: &Path) -> Result<Value, Failed> {
    let text = std::fs::read_to_string(folder.join("result.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// The cells of a result.
pub(crate) fn cells(result: &Value) -> &[Value] {
    result["cells"].as_array().map_or(&[], Vec::as_slice)
}

/// Fails unless every cell passed, and transfers with verified bytes.
pub(crate) fn all_passed(result: &Value, expected: usize) -> Result<(), Failed> {
    let cells = cells(result);
    if cells.len() != expected {
        return Err(format!("{expected} cells expected, {} found", cells.len()).into());
    }
    for cell in cells {
        let verified = cell["direction"].is_null() || cell["verified_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        if cell["outcome"] != "passed" || !verified {
            return Err(format!("a cell did not pass: {cell:#}").into());
        }
    }
    Ok(())
}
