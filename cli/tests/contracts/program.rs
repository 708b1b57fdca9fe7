//! Runs the program on any machine, with a temporary state directory and, for GPUs, the fake CUDA driver.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program with the state directory `state`.
pub(crate) fn peerpath(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerpath"));
    command.env("PEERPATH_STATE_DIR", state).env_remove("PEERPATH_TOKEN");
    command
}

/// Runs the program with an empty state directory.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    peerpath(&state.path().join("state")).args(arguments).output().unwrap()
}

/// Standard output and standard error.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Standard output as JSON.
#[track_caller]
pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// The exit code. Fails the test if the program panicked or died from a signal.
#[track_caller]
pub(crate) fn code(output: &Output) -> i32 {
    assert!(!text(output).contains("panicked"), "{}", text(output));
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", text(output)))
}

/// A directory that contains the fake CUDA driver under the file name of libcuda.
pub(crate) struct Gpu {
    folder: tempfile::TempDir,
}

impl Gpu {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = std::env::current_exe().unwrap().with_file_name("libpeerpath_cuda_double.so");
        assert!(library.is_file(), "{} was not built", library.display());
        std::os::unix::fs::symlink(library, folder.path().join("libcuda.so.1")).unwrap();
        Self { folder }
    }

    /// The program with a fake CUDA driver; `tests/cuda-double` lists the `settings`.
    pub(crate) fn peerpath(&self, settings: &str) -> Command {
        let mut command = peerpath(&self.folder.path().join("state"));
        command
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("PEERPATH_CUDA_DOUBLE", settings)
            .env("PEERPATH_CUDA_DOUBLE_LOG", self.folder.path().join("log"));
        command
    }

    /// Path of a file in the directory of this test.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs `work` on each item, in one thread per CPU. Results keep the order of the items.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let take = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(item) = items.get(at) else { return done };
                done.push((at, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
