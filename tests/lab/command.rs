//! Runs the program under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, io};

use libtest_mimic::Failed;
use serde_json::Value;

/// The root of the checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Folder of this test binary and of the program: `target/debug`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

fn target_folder() -> PathBuf {
    profile_folder().parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Folder for the files of each guest: kernel log, console, `run.json`.
pub(crate) fn lab_folder() -> PathBuf {
    target_folder().join("lab")
}

/// The program with libibverbs loaded at run time.
pub(crate) fn peerpath() -> PathBuf {
    NEAR.get().cloned().unwrap_or_else(|| profile_folder().join("peerpath"))
}

/// The guest's own copy of the program.
static NEAR: OnceLock<PathBuf> = OnceLock::new();

/// Copies the program into the guest's memory. From the host's file system each of several hundred starts takes half a second
/// longer.
pub(crate) fn bring_program_near() -> io::Result<()> {
    let folder = Path::new("/run/program-under-test");
    fs::create_dir_all(folder)?;
    let near = folder.join("peerpath");
    fs::copy(peerpath(), &near)?;
    let _ = NEAR.set(near);
    Ok(())
}

/// The program with libibverbs bound at link time.
pub(crate) fn peerpath_linked() -> PathBuf {
    profile_folder().join("peerpath_linked")
}

/// The server that is written from `docs/wire.md` alone.
pub(crate) fn independent_peer() -> PathBuf {
    profile_folder().join("independent-peer")
}

/// The exporter's example that checks this project's assumptions about the kernel.
pub(crate) fn vfio_check() -> PathBuf {
    profile_folder().join("examples/vfio_check")
}

/// The importers' example that writes a BAR through a NIC; its arguments are BDF, BAR and RDMA device.
pub(crate) fn loopback() -> PathBuf {
    profile_folder().join("examples/loopback")
}

/// The exporter's unit tests. Some need a kernel with VFIO.
pub(crate) fn exporter_tests() -> PathBuf {
    profile_folder().join("exporter_tests")
}

/// The example that measures peerpath's own share of the cost of mapping into an IOAS.
pub(crate) fn ioas_overhead() -> PathBuf {
    profile_folder().join("examples/ioas_overhead")
}

/// Folder of libclang 15 or older, which generates the bindings of the linked program; not every system has it.
fn old_libclang() -> Option<String> {
    let given = std::env::var("LIBCLANG_PATH").ok();
    let known = ["/usr/lib/llvm-14/lib", "/usr/lib/llvm-15/lib"].map(str::to_owned);
    given.into_iter().chain(known).find(|folder| Path::new(folder).is_dir())
}

/// Builds the programs that the tests run; cargo has built only the tests.
pub(crate) fn build() -> Result<(), Failed> {
    match old_libclang() {
        Some(folder) => build_linked(&folder)?,
        // A program from an earlier build must not be tested in its place.
        None => drop(fs::remove_file(peerpath_linked())),
    }
    let mut peer = cargo(&["build", "--locked", "--manifest-path", "tests/peer/Cargo.toml"]);
    succeed(peer.arg("--target-dir").arg(target_folder()))?;
    build_workspace()
}

/// Cargo writes it to the path of the other program, so that one must be built afterwards.
fn build_linked(libclang: &str) -> Result<(), Failed> {
    let features = ["--no-default-features", "--features", "peerpath/verbs-link"];
    let mut linked = cargo(&["build", "--workspace", "--bin", "peerpath"]);
    succeed(linked.args(features).env("LIBCLANG_PATH", libclang))?;
    fs::copy(peerpath(), peerpath_linked())?;
    Ok(())
}

/// Builds the workspace at once, like the software tests: for single packages cargo would build dependencies again with other
/// features. Copies the exporter's tests to a fixed name: cargo's own name contains a hash.
fn build_workspace() -> Result<(), Failed> {
    let mut all = cargo(&["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
    let output = all.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{all:?} ended with {}", output.status).into());
    }
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "peerpath_exporter" && message["profile"]["test"] == true)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or("cannot find the exporter's tests: cargo printed no path for them")?;
    fs::copy(built, exporter_tests())?;
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    let profile: &[&str] = if profile_folder().ends_with("release") { &["--release"] } else { &[] };
    cargo.args(arguments).args(profile).current_dir(repository());
    cargo
}

fn succeed(command: &mut Command) -> Result<(), Failed> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

/// Exit code and output of a run that ended.
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

    /// Fails with the whole output unless the program exited with `code`.
    pub(crate) fn expect(self, code: i32) -> Result<Self, Failed> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { code: found, stdout, stderr } = self;
        Err(format!("expected exit code {code}, found {found:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}").into())
    }

    /// Fails unless the output contains `what`.
    pub(crate) fn says(self, what: &str) -> Result<Self, Failed> {
        if self.stderr.contains(what) || self.stdout.contains(what) {
            return Ok(self);
        }
        Err(format!("the output does not contain {what:?}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
            .into())
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

/// Starts a command of any kind in the background.
pub(crate) fn start_command(command: &mut Command) -> Result<Running, Failed> {
    Ok(Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)))
}

/// Starts `peerpath` in the background.
pub(crate) fn start(arguments: &str) -> Result<Running, Failed> {
    let child = Command::new(peerpath())
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running(Some(child)))
}

/// A running program; killed if the test ends first.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Failed> {
        let id = self.0.as_ref().map_or(0, Child::id);
        // `kill` is a shell builtin.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status()?;
        if status.success() { Ok(()) } else { Err("cannot send the signal: the program has ended".into()) }
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

/// Waits until `holds` returns true. The limit is generous because emulated machines are slow; no result depends on it.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > Duration::from_secs(120) {
            return Err(format!("timed out waiting until {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The result that a run saved in `folder`.
pub(crate) fn result(folder: &Path) -> Result<Value, Failed> {
    let text = fs::read_to_string(folder.join("result.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// The cells of a result.
pub(crate) fn cells(result: &Value) -> &[Value] {
    result["cells"].as_array().map_or(&[], Vec::as_slice)
}

/// Fails unless every cell passed and every transfer has verified bytes.
pub(crate) fn all_passed(result: &Value, expected: usize) -> Result<(), Failed> {
    let cells = cells(result);
    if cells.len() != expected {
        return Err(format!("expected {expected} cells, found {}", cells.len()).into());
    }
    for cell in cells {
        let verified = cell["direction"].is_null() || cell["verified_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        if cell["outcome"] != "passed" || !verified {
            return Err(format!("a cell did not pass: {cell:#}").into());
        }
    }
    Ok(())
}
