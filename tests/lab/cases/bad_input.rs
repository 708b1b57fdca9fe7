//! Invalid input causes a clear error with its exit code, and leaks neither RDMA objects nor driver bindings.

use std::error::Error as _;
use std::process::Command;

use libtest_mimic::Failed;
use peerpath_exporter::vfio::Device;
use peerpath_exporter::{BarRange, page_bytes};
use peerpath_paths::{Cause, Explained as _};

use crate::Case;
use crate::command::{peerpath, run};
use crate::functions::{EXPORTER, NVME, TEST_DEVICE, driver, hold};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "names_invalid_sources", scenarios: &["default"], run: wrong_sources },
        Case { name: "rejects_bars_that_vfio_does_not_export", scenarios: &["default"], run: wrong_bars },
        Case {
            name: "distinguishes_a_port_that_is_down_from_a_missing_device",
            scenarios: &["default"],
            run: port_down,
        },
        Case { name: "reports_missing_libibverbs", scenarios: &["default"], run: no_library },
        Case { name: "reports_missing_permission", scenarios: &["default"], run: no_permission },
        Case { name: "keeps_an_earlier_result_when_the_disk_is_full", scenarios: &["default"], run: full_disk },
        Case { name: "reports_limits_of_the_device", scenarios: &["default"], run: limits },
        Case { name: "reports_a_missing_iommu", scenarios: &["no-iommu"], run: no_iommu },
    ]
}

/// Returns the counts of RDMA objects that `rdma resource` prints.
fn rdma_objects() -> Result<String, Failed> {
    let output = Command::new("rdma").args(["resource", "show"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn expect_no_leak(before: &str) -> Result<(), Failed> {
    let after = rdma_objects()?;
    if after != before {
        return Err(format!("the run leaked RDMA objects\n--- before\n{before}--- after\n{after}").into());
    }
    if let Some(driver) = driver(EXPORTER) {
        return Err(format!("{EXPORTER} is still bound to {driver}").into());
    }
    Ok(())
}

fn wrong_sources() -> Result<(), Failed> {
    let before = rdma_objects()?;
    let wrong = [
        ("0000:99:00.0:2".to_owned(), 2, "0000:99:00.0"),
        (format!("{EXPORTER}:3"), 2, "BAR 3"),
        (format!("{EXPORTER}:7"), 2, "BAR"),
        (format!("{EXPORTER}:0"), 2, "bar-not-exportable"),
        (format!("{EXPORTER}:2@0x10+0x1000"), 2, "0x10"),
        (format!("{EXPORTER}:2@0x0+0x2000,0x1000+0x1000"), 2, "overlap"),
        (format!("{EXPORTER}:2@0x0+0x10000000"), 2, "0x10000000"),
        (format!("{EXPORTER}:2@0x0+0x0"), 2, "0x0"),
        ("nonsense".to_owned(), 2, "nonsense"),
        (format!("{NVME}:0"), 3, "driver-not-vfio"),
        ("socket:/nowhere/at/all".to_owned(), 2, "/nowhere/at/all"),
    ];
    for (source, code, word) in wrong {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        run(&format!("run --from {source} --to verbs:rxe0 --op write --size 4K --iterations 5 --out {folder}"))
            .and_then(|ended| ended.expect(code)?.prints(word))
            .map_err(|error| format!("{source}: {}", error.message().unwrap_or_default()))?;
        expect_no_leak(&before)?;
    }
    for target in ["verbs:", "verbs:rxe0/9", "nothing:x", "verbs:../../etc"] {
        run(&format!("run --from host:1M --to {target} --op write --size 4K --iterations 5 --out /tmp/never"))?
            .expect(2)?;
    }
    Ok(())
}

/// Checks BARs that VFIO does not export: the kernel's errno, and the program's error before it calls the kernel.
fn wrong_bars() -> Result<(), Failed> {
    for (bdf, bar, errno, word) in [
        (EXPORTER, 0, libc::EINVAL, "bar-not-exportable"),
        (EXPORTER, 1, libc::ENODEV, "BAR 1"),
        (TEST_DEVICE, 1, libc::EINVAL, "bar-not-exportable"),
    ] {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        run(&format!("run --from {bdf}:{bar} --to verbs:rxe0 --op register --size 4K --out {folder}"))?
            .expect(2)?
            .prints(word)?;
        let _hold = hold(bdf)?;
        let device = Device::open(bdf.parse()?)?;
        let page = BarRange { offset_bytes: 0, length_bytes: page_bytes() };
        let error = device.export_ranges(bar, &[page]).err().ok_or("exported")?;
        let answer = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()?.raw_os_error());
        if answer != Some(errno) || error.explanation().cause != Some(Cause::BarNotExportable) {
            return Err(format!("BAR {bar} of {bdf}: {answer:?}, {:?}", error.explanation()).into());
        }
    }
    Ok(())
}

fn write_from_host(folder: &std::path::Path) -> String {
    format!("run --from host:1M --to verbs:rxe0 --op write --size 4K --iterations 5 --out {}", folder.display())
}

fn port_down() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let interface = std::fs::read_to_string("/sys/class/infiniband/rxe0/parent")?;
    let link = |state| Command::new("ip").args(["link", "set", interface.trim(), state]).status();
    link("down")?;
    let refused = run(&write_from_host(out.path())).and_then(|ended| ended.expect(3)?.prints("port-down"));
    link("up")?;
    crate::command::until("the port is up again", || {
        std::fs::read_to_string("/sys/class/infiniband/rxe0/ports/1/state").is_ok_and(|state| state.contains("ACTIVE"))
    })?;
    refused?;
    run("run --from host:1M --to verbs:rxe7 --op write --size 4K --iterations 5 --out /tmp/never")?
        .expect(2)?
        .prints("no-device")
        .map(drop)
}

fn no_library() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    // A mount in a private mount namespace hides the library from the program only.
    let hide =
        "for library in /usr/lib/*/libibverbs.so.1; do mount --bind /dev/null \"$(readlink -f \"$library\")\"; done";
    let command = format!("{hide}; exec {} {}", peerpath().display(), write_from_host(out.path()));
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &command]).output()?;
    let errors = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) && errors.contains("library-missing") {
        Ok(())
    } else {
        Err(format!("{}: {errors}", output.status).into())
    }
}

fn no_permission() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    std::fs::set_permissions(out.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let arguments = format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op write --size 4K --iterations 5 --out {}",
        out.path().display()
    );
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(peerpath())
        .args(arguments.split_whitespace())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) && errors.contains("no-permission") {
        Ok(())
    } else {
        Err(format!("{}: {errors}", output.status).into())
    }
}

fn full_disk() -> Result<(), Failed> {
    let mount = tempfile::tempdir()?;
    let folder = mount.path().join("out");
    let path = mount.path().display().to_string();
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", &path]).status()?;
    if !status.success() {
        return Err(format!("mount failed with {status}").into());
    }
    let outcome = (|| {
        run(&write_from_host(&folder))?.expect(0)?;
        let first = std::fs::read_to_string(folder.join("result.json"))?;
        // On the full disk, the next run cannot save its result and must not damage the earlier one.
        let _ = std::fs::write(mount.path().join("filler"), vec![0_u8; 1 << 20]);
        run(&format!("{} --force", write_from_host(&folder)))?.expect(4)?;
        let names: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name()).collect();
        if names != ["result.json"] || std::fs::read_to_string(folder.join("result.json"))? != first {
            return Err(Failed::from(format!("the folder has changed: {names:?}")));
        }
        Ok(())
    })();
    Command::new("umount").arg(&path).status()?;
    outcome
}

/// A request beyond the device's limits is waived; it is neither a failed path nor a bug.
fn limits() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    // Completion queues of rxe have 32767 entries.
    let asked = "--op write --mode bandwidth --size 64 --depth 60000 --iterations 5";
    run(&format!("run --from host:8M --to verbs:rxe0 {asked} --out {folder}"))?
        .expect(3)?
        .prints("limit-reached")?
        .prints("Use a depth")?;
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let asked = "--op write --size 64 --iterations 5 --inline 65536";
    run(&format!("run --from host:8M --to verbs:rxe0 {asked} --out {folder}"))?
        .expect(3)?
        .prints("limit-reached")?
        .prints("inline data")
        .map(drop)
}

fn no_iommu() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run --from {EXPORTER}:2 --to verbs:rxe0 --op write --size 4K --iterations 5 --out {folder}"))?
        .expect(3)?
        .prints("no-iommu")?;
    if let Some(driver) = driver(EXPORTER) {
        return Err(format!("{EXPORTER} is still bound to {driver}").into());
    }
    Ok(())
}
