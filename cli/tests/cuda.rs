//! The command with a fake CUDA driver, which logs each call and reports calls in the wrong order; and the command
//! without a driver.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

/// The fake CUDA driver, built with this test.
fn fake_driver() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = folder.join("libpeerpath_cuda_double.so");
    assert!(library.is_file(), "{} was not built", library.display());
    library
}

/// A directory with a libcuda for the command to load.
struct Stage {
    folder: tempfile::TempDir,
}

struct Run {
    code: Option<i32>,
    text: String,
    cells: Vec<Value>,
    result: Value,
    log: String,
}

impl Stage {
    /// The fake driver with every function.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(fake_driver(), folder.path().join("libcuda.so.1")).unwrap();
        Self { folder }
    }

    fn with(library: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libcuda.so.1"), library).unwrap();
        Self { folder }
    }

    /// The fake driver with one symbol renamed, so that its lookup fails.
    fn without(symbol: &str) -> Self {
        let mut library = std::fs::read(fake_driver()).unwrap();
        let name: Vec<u8> = [b"\0", symbol.as_bytes(), b"\0"].concat();
        let places: Vec<_> = library.windows(name.len()).enumerate().filter(|(_, window)| *window == name).collect();
        let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
        assert!(!places.is_empty(), "the fake driver has no {symbol}");
        for place in places {
            library[place + 1] = b'x';
        }
        Self::with(&library)
    }

    fn peerpath(&self, settings: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_peerpath"))
            .args(arguments)
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("PEERPATH_CUDA_DOUBLE", settings)
            .env("PEERPATH_CUDA_DOUBLE_LOG", self.log())
            .env("PEERPATH_STATE_DIR", self.folder.path().join("state"))
            .output()
            .unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Performs a short run. `settings` configures the fake driver.
    fn run(&self, settings: &str, arguments: &[&str]) -> Run {
        let _ = std::fs::remove_file(self.log());
        let out = self.folder.path().join("out");
        let _ = std::fs::remove_dir_all(&out);
        let common = ["--iterations", "20", "--warmup", "2", "--out", out.to_str().unwrap()];
        let output = self.peerpath(settings, &[&["run"], arguments, &common].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let result = std::fs::read_to_string(out.join("result.json")).unwrap_or_else(|_| "{}".to_owned());
        let result: Value = serde_json::from_str(&result).unwrap();
        let cells = result["cells"].as_array().cloned().unwrap_or_default();
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(!text.contains("panicked"), "{settings}: {text}");
        assert!(output.status.code().is_some(), "{settings}: ended by a signal: {text}");
        Run { code: output.status.code(), text, cells, result, log }
    }
}

impl Run {
    /// Asserts that calls were in order and everything was released.
    #[track_caller]
    fn in_order(self) -> Self {
        let complaints: Vec<_> = self.log.lines().filter(|line| line.starts_with("COMPLAINT")).collect();
        assert!(complaints.is_empty(), "{complaints:?}\n{}", self.text);
        assert!(self.log.ends_with("END\n"), "the driver did not see the end: {}", self.text);
        self
    }

    #[track_caller]
    fn all(self, outcome: &str, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        assert!(!self.cells.is_empty(), "{}", self.text);
        for cell in &self.cells {
            assert_eq!(cell["outcome"], outcome, "{cell}");
        }
        self
    }

    fn mechanisms(&self) -> BTreeSet<&str> {
        self.cells.iter().filter_map(|cell| cell["mechanism"].as_str()).collect()
    }

    fn reasons(&self) -> String {
        let words = |cell: &Value| format!("{} {} {}\n", cell["cause"], cell["reason"], cell["remedy"]);
        self.cells.iter().map(words).collect()
    }
}

const OPS: [&str; 14] = [
    "--op",
    "export",
    "--op",
    "register",
    "--op",
    "copy_in",
    "--op",
    "copy_out",
    "--op",
    "kernel_store",
    "--op",
    "kernel_load",
    "--op",
    "unregister",
];

#[test]
fn each_mechanism_moves_data_and_releases_everything() {
    let stage = Stage::new();
    for (source, mechanism) in [
        ("cuda:0:1M", "external-dmabuf"),
        ("cuda:0:1M", "external-fd"),
        ("cuda:0:1M", "device-memory"),
        ("host:1M", "register-host-memory"),
        ("host:1M", "register-io-memory"),
    ] {
        let sizes = ["--size", "4", "--size", "24", "--size", "4K", "--size", "64K"];
        let named = ["--from", source, "--to", "cuda:0", "--mechanism", mechanism];
        let run = stage.run("", &[&named[..], &OPS, &sizes].concat()).in_order();
        // A dma-buf consists of whole pages, so a shorter GPU allocation cannot be exported.
        let passed = run.cells.iter().filter(|cell| cell["outcome"] == "passed").count();
        assert!(passed >= 36, "{mechanism}: {passed} passed\n{}{}", run.text, run.reasons());
        assert_eq!(run.mechanisms(), BTreeSet::from([mechanism]));
        for cell in run.cells.iter().filter(|cell| cell["outcome"] == "passed" && !cell["direction"].is_null()) {
            assert!(cell["verified_bytes"].as_u64() > Some(0), "{cell}");
            assert_eq!(cell["timed_by"], "device", "{cell}");
            let latency = !cell["latency_ns"].is_null();
            assert!(latency || cell["throughput_bytes_per_s"].as_f64() > Some(0.0), "{cell}");
        }
    }
}

#[test]
fn marks_results_of_the_fake_driver_as_emulated() {
    let stage = Stage::new();
    let run = stage.run("", &["--from", "host:1M", "--to", "cuda:0", "--op", "copy_in"]).in_order().all("passed", 0);
    assert_eq!(run.result["environment"]["emulated"], true);
    assert!(run.result["environment"]["emulator"].as_str().unwrap().contains("fake CUDA driver"), "{}", run.result);
    assert!(run.text.contains("do not describe hardware"), "{}", run.text);
}

/// The clock of the fake driver advances by one millisecond per operation.
#[test]
fn reports_times_of_the_gpu_clock() {
    let stage = Stage::new();
    for op in ["copy_in", "kernel_load"] {
        let run = stage.run("takes=1000", &["--from", "host:1M", "--to", "cuda:0", "--op", op, "--size", "4K"]);
        let run = run.in_order().all("passed", 0);
        let near = |value: &Value, expected: f64| {
            let value = value.as_f64().unwrap();
            assert!((value / expected - 1.0).abs() < 0.01, "{op}: {value}, not {expected}");
        };
        for cell in &run.cells {
            match cell["mode"].as_str().unwrap() {
                "completion" => ["min", "p50", "max"].iter().for_each(|name| near(&cell["latency_ns"][name], 1e6)),
                _ => {
                    near(&cell["operations_per_s"], 1e3);
                    near(&cell["throughput_bytes_per_s"], 4096e3);
                }
            }
        }
    }
}

#[test]
fn passes_with_several_queues_threads_and_gpus() {
    let stage = Stage::new();
    for arguments in [
        &["--from", "host:4M", "--to", "cuda:0", "--threads", "3", "--qps", "2", "--depth", "4"][..],
        &["--from", "cuda:1:4M", "--to", "cuda:0", "--mechanism", "device-memory"],
    ] {
        let ops = ["--op", "copy_in", "--op", "kernel_load", "--size", "64K"];
        stage.run("gpus=2", &[arguments, &ops].concat()).in_order().all("passed", 0);
    }
}

#[test]
fn tries_mechanisms_in_order() {
    let stage = Stage::new();
    let to_gpu =
        |settings, source| stage.run(settings, &["--from", source, "--to", "cuda:0", "--op", "copy_out"]).in_order();
    for (settings, mechanism) in [
        ("", "external-dmabuf"),
        ("refuse=dma-buf:801", "external-fd"),
        ("version=12080", "external-fd"),
        ("refuse=dma-buf:801,refuse=opaque:999", "device-memory"),
        // An old driver without dma-buf export.
        ("version=11060,refuse=cuMemGetHandleForAddressRange:801", "device-memory"),
        ("refuse=cuExternalMemoryGetMappedBuffer:999", "device-memory"),
    ] {
        let run = to_gpu(settings, "cuda:0:1M").all("passed", 0);
        assert_eq!(run.mechanisms(), BTreeSet::from([mechanism]), "{settings}");
    }
}

#[test]
fn waives_a_refusal_with_error_condition_and_alternatives() {
    let stage = Stage::new();
    let run = stage.run(
        "refuse=dma-buf:801",
        &["--from", "cuda:0:1M", "--to", "cuda:0", "--mechanism", "external-dmabuf", "--op", "copy_in"],
    );
    let reasons = run.in_order().all("waived", 3).reasons();
    for word in ["mechanism-refused", "CUDA_ERROR_NOT_SUPPORTED", "Tegra", "device-memory"] {
        assert!(reasons.contains(word), "{word}: {reasons}");
    }
    let run = stage.run("refuse=cuMemHostRegister_v2:800", &["--from", "host:1M", "--to", "cuda:0", "--op", "copy_in"]);
    let reasons = run.in_order().all("waived", 3).reasons();
    assert!(reasons.contains("no-permission") && reasons.contains("CUDA_ERROR_NOT_PERMITTED"), "{reasons}");
    // The export fails even though the GPU can access its own memory without it.
    let settings = "refuse=cuMemGetHandleForAddressRange:801";
    let run = stage.run(settings, &["--from", "cuda:0:1M", "--to", "cuda:0", "--op", "export"]);
    run.in_order().all("waived", 3);
}

/// CUDA driver functions that the run of [`both`] calls.
const CALLS: [&str; 38] = [
    "cuInit",
    "cuGetErrorName",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceGetPCIBusId",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyAsync",
    "cuPointerSetAttribute",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemHostGetDevicePointer_v2",
    "cuMemGetHandleForAddressRange",
    "cuImportExternalMemory",
    "cuExternalMemoryGetMappedBuffer",
    "cuDestroyExternalMemory",
    "cuStreamCreate",
    "cuStreamSynchronize",
    "cuStreamDestroy_v2",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuLaunchKernel",
];

/// Functions that release a resource. If one fails, the log may report only the resource that leaks as a result.
const RELEASING: [&str; 8] = [
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemFree_v2",
    "cuMemHostUnregister",
    "cuDestroyExternalMemory",
    "cuStreamDestroy_v2",
    "cuEventDestroy_v2",
    "cuModuleUnload",
];

/// A short run that calls all of `CALLS`: registers GPU memory and host memory, and transfers with the copy engine and kernels.
fn both(stage: &Stage, settings: &str) -> Run {
    let ends = ["--from", "cuda:0:16K", "--from", "host:16K", "--to", "cuda:0"];
    let ops = ["--op", "copy_in", "--op", "kernel_load", "--size", "4K", "--mode", "completion", "--depth", "1"];
    stage.run(settings, &[&ends[..], &ops].concat())
}

/// Runs `check` on each item with one thread per CPU: each check spends most of its time on starting the command.
fn each<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(item);
                }
            });
        }
    });
}

#[test]
fn reports_a_failure_of_any_call_and_releases_everything() {
    let run = both(&Stage::new(), "").in_order().all("passed", 0);
    let logged = |call: &&&str| run.log.lines().any(|line| line.split(' ').next() == Some(**call));
    // The fake driver does not log polls and context changes. No call fails, so no error name is looked up.
    let unlogged = ["cuCtxSetCurrent", "cuEventQuery", "cuGetErrorName"];
    let unused: Vec<_> = CALLS.iter().filter(|call| !unlogged.contains(*call) && !logged(call)).collect();
    assert!(unused.is_empty(), "{unused:?} were not called: {}", run.log);
    let cases: Vec<_> = CALLS.iter().flat_map(|call| [(*call, 1), (*call, 3)]).collect();
    each(&cases, |(call, from)| {
        let run = both(&Stage::new(), &format!("refuse={call}:999:{from}"));
        let is_left = |line: &str| RELEASING.contains(call) && line.ends_with(" were not released");
        let complaints: Vec<_> =
            run.log.lines().filter(|line| line.starts_with("COMPLAINT") && !is_left(line)).collect();
        assert!(complaints.is_empty(), "{call} from {from}: {complaints:?}");
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{call} from {from}: {:?} {}", run.code, run.text);
        if run.cells.iter().all(|cell| cell["outcome"] == "passed") {
            return;
        }
        let report = run.reasons() + &run.text;
        assert!(
            report.contains(call)
                || report.contains("initiator memory")
                || report.contains("exported memory")
                || report.contains("the transfer completed with CUDA_ERROR_UNKNOWN"),
            "{call}: {report}"
        );
        for cell in run.cells.iter().filter(|cell| cell["outcome"] != "passed") {
            let reason = cell["reason"].as_str().unwrap_or_default();
            assert!(!reason.is_empty() && cell["latency_ns"].is_null(), "{cell}");
        }
    });
}

#[test]
fn reports_a_function_that_the_driver_lacks() {
    each(&CALLS, |call| {
        let run = both(&Stage::without(call), "");
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{call}: {:?} {}", run.code, run.text);
        if run.cells.iter().any(|cell| cell["outcome"] != "passed") {
            let reasons = run.reasons();
            assert!(reasons.contains(call), "{call}: {reasons}");
        }
        // Every run needs this function, so the run reports a driver that is too old.
        if *call == "cuMemAlloc_v2" {
            assert!(run.reasons().contains("driver-too-old"), "{}", run.reasons());
        }
    });
}

#[test]
fn waives_cells_without_enough_gpu_memory() {
    for ends in [["--from", "cuda:0:2G", "--to", "cuda:0"], ["--from", "host:1M", "--to", "cuda:0"]] {
        // The second run simulates a GPU whose memory other programs have allocated.
        let settings = if ends[1] == "host:1M" { "refuse=cuDevicePrimaryCtxRetain:2" } else { "" };
        let run = Stage::new().run(settings, &[&ends[..], &["--op", "copy_in"]].concat()).in_order().all("waived", 3);
        assert!(run.reasons().contains("limit-reached"), "{}", run.reasons());
    }
}

/// Without a dma-buf, access to the memory of another GPU needs peer access.
#[test]
fn waives_cells_without_peer_access() {
    let ends = ["--from", "cuda:1:1M", "--to", "cuda:0", "--mechanism", "device-memory", "--op", "copy_in"];
    for call in ["cuDeviceCanAccessPeer", "cuCtxEnablePeerAccess"] {
        let settings = format!("gpus=2,refuse={call}:217");
        for stage in [Stage::new(), Stage::without(call)] {
            let run = stage.run(&settings, &ends).in_order().all("waived", 3);
            assert!(run.reasons().contains(call), "{}", run.reasons());
        }
    }
    // Peer access that is already enabled is not an error.
    let run = Stage::new().run("gpus=2,refuse=cuCtxEnablePeerAccess:704", &ends);
    run.in_order().all("passed", 0);
}

#[test]
fn fails_all_cells_after_the_gpu_is_lost() {
    let ends = [("host:1M", "register-host-memory"), ("cuda:0:1M", "external-fd"), ("cuda:0:1M", "device-memory")];
    let each_lose = |(source, mechanism)| [1, 2, 15, 40].map(|lose| (source, mechanism, lose));
    let cases: Vec<_> = ends.into_iter().flat_map(each_lose).collect();
    each(&cases, |(source, mechanism, lose)| {
        let named = ["--from", source, "--to", "cuda:0", "--mechanism", mechanism, "--size", "4K"];
        let ops = ["--mode", "completion", "--mode", "bandwidth", "--op", "copy_in", "--op", "kernel_store"];
        let run = Stage::new().run(&format!("lose={lose}"), &[&named[..], &ops].concat());
        assert_eq!(run.code, Some(1), "{}", run.text);
        let run = run.in_order();
        let failed: Vec<_> = run.cells.iter().filter(|cell| cell["outcome"] == "failed").collect();
        // The context stays unusable, so the last cell has failed too.
        assert!(!failed.is_empty() && run.cells.last().unwrap()["outcome"] == "failed", "{}", run.text);
        assert!(run.reasons().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{}", run.reasons());
    });
}

#[test]
fn fails_cells_with_mismatched_bytes() {
    let stage = Stage::new();
    for op in ["copy_in", "copy_out", "kernel_store", "kernel_load"] {
        let run = stage.run("spoil", &["--from", "host:1M", "--to", "cuda:0", "--op", op]).in_order().all("failed", 1);
        assert!(run.reasons().contains("data-mismatch"), "{}", run.reasons());
    }
}

#[test]
fn exits_with_2_for_invalid_names() {
    let stage = Stage::new();
    for (arguments, word) in [
        (&["--from", "host:1M", "--to", "cuda:7"][..], "cuda:7 "),
        (&["--from", "cuda:7:1M", "--to", "cuda:0"], "GPU 7"),
        (&["--from", "host:1M", "--to", "cuda:x"], "number"),
        (&["--from", "host:1M", "--to", "cuda:0?mechanism=magic"], "mechanism"),
        (&["--from", "host:1M", "--to", "verbs:rxe0", "--mechanism", "external-fd"], "verbs"),
        (&["--from", "cuda:0:100", "--to", "cuda:0"], "pages"),
    ] {
        let run = stage.run("", arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.text);
        assert!(run.text.contains(word.trim()) || run.text.contains("GPU 7"), "{arguments:?}: {}", run.text);
    }
}

#[test]
fn lists_and_checks_gpus() {
    let stage = Stage::new();
    let output = |arguments: &[&str]| String::from_utf8_lossy(&stage.peerpath("", arguments).stdout).into_owned();
    let listed = output(&["list"]);
    assert!(listed.contains("cuda:0: fake GPU"), "{listed}");
    let json: Value = serde_json::from_str(&output(&["list", "--json"])).unwrap();
    let gpu = json.as_array().unwrap().iter().find(|entry| entry["devices"] == serde_json::json!(["cuda:0"]));
    assert_eq!(gpu.unwrap()["bdf"], "ff00:fe:1e.0");
    let findings: Value = serde_json::from_str(&output(&["doctor", "--json"])).unwrap();
    let status = |check: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check}"))["status"].clone()
    };
    for check in ["gpu-driver", "gpu-dma-buf", "gpu-direct-rdma"] {
        assert_eq!(status(check), "pass", "{check}");
    }
    assert_eq!(status("gpu-bar1"), "unknown", "no machine has the function of the fake GPU");
}

/// The file named libcuda.so.1 is not a library.
#[test]
fn names_the_missing_library_without_a_driver() {
    let stage = Stage::with(b"no library");
    for settings in [&["--from", "host:1M", "--to", "cuda:0"][..], &["--from", "cuda:0:1M", "--to", "cuda:0"]] {
        let run = stage.run("", settings);
        assert_eq!((run.code, run.cells.len()), (Some(3), 0), "{}", run.text);
        assert!(run.text.contains("library-missing") && run.text.contains("libcuda"), "{}", run.text);
    }
    for arguments in [&["doctor"][..], &["doctor", "--to", "cuda:0"]] {
        let output = stage.peerpath("", arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("libcuda"), "{arguments:?}: {text}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
    // A host without GPUs does not need the library.
    let listed = stage.peerpath("", &["list"]);
    assert_eq!((listed.status.code(), &*String::from_utf8_lossy(&listed.stderr)), (Some(0), ""));
    assert!(!Path::new(&stage.log()).exists());
    // A driver without a GPU:
    let run = Stage::new().run("gpus=0", &["--from", "host:1M", "--to", "cuda:0"]);
    assert_eq!((run.code, run.cells.len()), (Some(2), 0), "{}", run.text);
    assert!(run.text.contains("no-device"), "{}", run.text);
}
