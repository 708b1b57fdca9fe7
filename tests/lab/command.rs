//! Runs the program under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use libtest_mimic::Failed;
use serde_json::Value;

/// Returns the root of the checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Returns the folder of the built programs, e.g. `target/debug`. This test binary is in its subfolder `deps`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

fn target_folder() -> PathBuf {
    profile_folder().parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Returns the folder for the files of each guest: kernel log, console, `run.json`.
pub(crate) fn lab_folder() -> PathBuf {
    target_folder().join("lab")
}

/// Returns the program that loads libibverbs at run time.
pub(crate) fn peerpath() -> PathBuf {
    LOCAL_COPY.get().cloned().unwrap_or_else(|| profile_folder().join("peerpath"))
}

/// Copy of the program in the guest's memory.
static LOCAL_COPY: OnceLock<PathBuf> = OnceLock::new();

/// Copies the program into the guest's memory. Several hundred starts from the host's file system would each take half a
/// second longer.
pub(crate) fn copy_program_into_guest() -> io::Result<()> {
    let folder = Path::new("/run/program-under-test");
    fs::create_dir_all(folder)?;
    let near = folder.join("peerpath");
    fs::copy(peerpath(), &near)?;
    let _ = LOCAL_COPY.set(near);
    Ok(())
}

/// Returns the program that links libibverbs.
pub(crate) fn peerpath_linked() -> PathBuf {
    profile_folder().join("peerpath_linked")
}

/// Returns the independent server, written only from `docs/wire.md`.
pub(crate) fn independent_peer() -> PathBuf {
    profile_folder().join("independent-peer")
}

/// Returns the exporter's example that checks our assumptions about the kernel.
pub(crate) fn vfio_check() -> PathBuf {
    profile_folder().join("examples/vfio_check")
}

/// The importers' example that writes a BAR through a NIC; its arguments are BDF, BAR and RDMA device.
pub(crate) fn loopback() -> PathBuf {
    profile_folder().join("examples/loopback")
}

/// Returns the exporter's unit tests. Some need a kernel with VFIO.
pub(crate) fn exporter_tests() -> PathBuf {
    profile_folder().join("exporter_tests")
}

/// Returns the example that measures the overhead of peerpath when it maps into an IOAS.
pub(crate) fn ioas_overhead() -> PathBuf {
    profile_folder().join("examples/ioas_overhead")
}

/// Returns the folder of libclang 15 or older, needed to build the linked program. `None` if the system does not have it.
fn old_libclang() -> Option<String> {
    let given = std::env::var("LIBCLANG_PATH").ok();
    let known = ["/usr/lib/llvm-14/lib", "/usr/lib/llvm-15/lib"].map(str::to_owned);
    given.into_iter().chain(known).find(|folder| Path::new(folder).is_dir())
}

/// Builds the programs that the tests run; cargo has built only the tests.
pub(crate) fn build() -> Result<(), Failed> {
    match old_libclang() {
        Some(folder) => build_linked(&folder)?,
        // Remove the program of an earlier build, so that no test uses it.
        None => drop(fs::remove_file(peerpath_linked())),
    }
    let mut peer = cargo(&["build", "--locked", "--manifest-path", "tests/peer/Cargo.toml"]);
    succeed(peer.arg("--target-dir").arg(target_folder()))?;
    build_workspace()
}

/// Builds the program that links libibverbs. Cargo writes it to the path of the default program, which loads libibverbs at run
/// time, so build the default program afterwards.
fn build_linked(libclang: &str) -> Result<(), Failed> {
    let features = ["--no-default-features", "--features", "peerpath/verbs-link"];
    let mut linked = cargo(&["build", "--workspace", "--bin", "peerpath"]);
    succeed(linked.args(features).env("LIBCLANG_PATH", libclang))?;
    fs::copy(peerpath(), peerpath_linked())?;
    Ok(())
}

/// Builds the whole workspace, as the software tests do. For single packages, cargo would rebuild dependencies with other
/// features. Copies the exporter's tests to a fixed name, because cargo's name contains a hash.
fn build_workspace() -> Result<(), Failed> {
    let mut all = cargo(&["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
    let output = all.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{all:?} failed with {}", output.status).into());
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
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed with {status}").into()) }
}

/// Exit code and output of an exited program.
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

    /// Fails with the whole output unless the exit code is `code`.
    pub(crate) fn expect(self, code: i32) -> Result<Self, Failed> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { code: found, stdout, stderr } = self;
        Err(format!("expected exit code {code}, found {found:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}").into())
    }

    /// Fails unless the output contains `what`.
    pub(crate) fn prints(self, what: &str) -> Result<Self, Failed> {
        if self.stderr.contains(what) || self.stdout.contains(what) {
            return Ok(self);
        }
        Err(format!("the output does not contain {what:?}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
            .into())
    }
}

/// Runs `peerpath` with arguments separated by spaces.
pub(crate) fn run(arguments: &str) -> Result<Ended, Failed> {
    run_program(&peerpath(), &once(arguments))
}

/// Adds `--repeat 1` to a `run` without `--repeat`. Most tests concern the data and the path, and emulated machines are slow.
pub(crate) fn once(arguments: &str) -> String {
    let is_run = arguments.split_whitespace().any(|word| word == "run");
    let repeat = if is_run && !arguments.contains("--repeat") { " --repeat 1" } else { "" };
    format!("{arguments}{repeat}")
}

/// Runs a program with arguments separated by spaces.
pub(crate) fn run_program(program: &Path, arguments: &str) -> Result<Ended, Failed> {
    run_command(Command::new(program).args(arguments.split_whitespace()))
}

/// Runs a command and waits for it.
pub(crate) fn run_command(command: &mut Command) -> Result<Ended, Failed> {
    start_command(command)?.wait()
}

/// Runs a shell command.
pub(crate) fn shell(command: &str) -> Result<(), Failed> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command} failed with {status}").into()) }
}

/// Starts a command in the background.
pub(crate) fn start_command(command: &mut Command) -> Result<Running, Failed> {
    Ok(Running(Some(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)))
}

/// Starts `peerpath` in the background.
pub(crate) fn start(arguments: &str) -> Result<Running, Failed> {
    start_command(Command::new(peerpath()).args(once(arguments).split_whitespace()))
}

/// Time limit for one program. The longest takes two minutes under emulation; one that waits forever would use up the guest's
/// time limit and hide its reason.
const MOST_SECONDS: u64 = 900;

/// Returns system call and kernel stack of each thread of the programs under test.
fn stacks() -> String {
    let script = "for process in /proc/[0-9]*; do
        grep -q ^peerpath $process/comm || continue
        for task in $process/task/*; do echo \"--- $task $(cat $task/wchan)\"; cat $task/syscall $task/stack; done
        done 2>&1";
    let output = Command::new("sh").args(["-c", script]).output();
    output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running program; killed on drop.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Failed> {
        let id = self.0.as_ref().map_or(0, Child::id);
        // `kill` is a shell builtin.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status()?;
        if status.success() { Ok(()) } else { Err("cannot send the signal: the program has exited".into()) }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until the program has ended. If it does not end within [`MOST_SECONDS`], fails and prints where the threads of all
    /// programs under test wait in the kernel.
    pub(crate) fn wait(mut self) -> Result<Ended, Failed> {
        let child = self.0.take().ok_or("wait was called twice")?;
        let id = child.id();
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        match ended.recv_timeout(Duration::from_secs(MOST_SECONDS)) {
            Ok(output) => Ok(Ended::from(output?)),
            Err(_) => {
                let threads = stacks();
                shell(&format!("kill -KILL {id}"))?;
                let output = ended.recv_timeout(Duration::from_secs(10)).ok().and_then(Result::ok).map(Ended::from);
                let (stdout, stderr) = output.map_or_else(Default::default, |ended| (ended.stdout, ended.stderr));
                Err(format!(
                    "the program did not end within {MOST_SECONDS} s\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n{threads}"
                )
                .into())
            }
        }
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

/// Waits until `holds` returns true. The timeout is long because emulated machines are slow; no result depends on it.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > Duration::from_secs(120) {
            return Err(format!("timed out waiting until {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Reads the result that a run saved in `folder`.
pub(crate) fn result(folder: &Path) -> Result<Value, Failed> {
    let text = fs::read_to_string(folder.join("result.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// Returns the cells of a result.
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
            return Err(format!("expected a passed cell with verified bytes: {cell:#}").into());
        }
    }
    Ok(())
}
