//! Checks this crate against a real kernel. Needs root, an IOMMU, and a PCI function whose BAR may be overwritten.
//!
//! ```text
//! vfio_check BDF:BAR [OTHER-BDF]    OTHER-BDF: an idle function with a driver, which is bound to vfio-pci and restored
//! ```

use std::error::Error as StdError;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use peerpath_exporter::socket::{DmaBufSender, SocketExporter};
use peerpath_exporter::vfio::bars;
use peerpath_exporter::{BarRange, Error, Exporter, OpenOptions, Source, VfioExporter, VfioInterface, page_bytes};
use peerpath_host::{Hold, Options, Outcome, Restored, bind, restore};
use peerpath_paths::{BarIndex, Bdf, Cause, Explained, Tree};

type Outcomes = Result<(), Box<dyn StdError>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let Some(Ok(Source::Vfio { bdf, bar, .. })) = arguments.get(1).map(|text| text.parse()) else {
        eprintln!("usage: vfio_check BDF:BAR [OTHER-BDF]");
        return ExitCode::from(2);
    };
    if arguments.get(2).is_some_and(|word| word == "hold") {
        return hold(bdf, bar);
    }
    let mut failures = 0;
    let mut check = |name: &str, result: Outcomes| match result {
        Ok(()) => println!("passed  {name}"),
        Err(error) => {
            failures += 1;
            println!("FAILED  {name}: {error}");
        }
    };
    for vfio in VfioInterface::ALL {
        let options = OpenOptions { vfio, ..OpenOptions::default() };
        check(&format!("{vfio}: exports, views, errors and resets"), through(bdf, bar, &options));
        check(&format!("{vfio}: restores the driver"), is_restored(bdf, None));
    }
    check("rejects bad input", bad_input(bdf, bar));
    check("one process at a time, and restore after SIGKILL", one_at_a_time(bdf, bar));
    check("passes a dma-buf over a socket", over_socket(bdf, bar));
    if let Some(other) = arguments.get(2) {
        check("binds and restores", bound_and_restored(other));
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Keeps the function open for 10 minutes, or until the process is killed.
fn hold(bdf: Bdf, bar: BarIndex) -> ExitCode {
    let exporter = || -> Result<_, Box<dyn StdError>> {
        let hold = Hold::acquire(bdf, &Options::default())?;
        Ok((VfioExporter::open(bdf, bar, &[], &OpenOptions::default())?, hold))
    };
    match exporter() {
        Ok(_held) => {
            println!("held");
            std::thread::sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(3)
        }
    }
}

fn expect(holds: bool, otherwise: impl Into<String>) -> Outcomes {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

fn through(bdf: Bdf, bar: BarIndex, options: &OpenOptions) -> Outcomes {
    let _hold = Hold::acquire(bdf, &Options::default())?;
    let fds = open_fds()?;
    let exporter = VfioExporter::open(bdf, bar, &[], options)?;
    let device = exporter.device();
    let (asked, used) = (options.vfio, device.interface());
    expect(asked == VfioInterface::Auto || used == asked, format!("opened through {used}"))?;
    expect(device.is_mappable(bar) == Some(true), "the BAR cannot be mapped")?;
    exports_with_views(&exporter)?;
    many_ranges(&exporter, options)?;
    kernel_refuses(&exporter)?;
    memory_off(&exporter)?;
    survives_reset(&exporter)?;
    drop(exporter);
    expect(open_fds()? == fds, format!("{fds} fds before, {} after", open_fds()?))
}

fn exports_with_views(exporter: &VfioExporter) -> Outcomes {
    let total = exporter.length_bytes();
    for length in [page_bytes(), total / 2, total] {
        let buffer = exporter.export(length)?;
        let fd = buffer.dma_buf().ok_or("no dma-buf")?.as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        expect(info.lines().any(|line| line == format!("size:\t{length}")), format!("{length} bytes: {info}"))?;
        let pattern: Vec<u8> = (0..3001).map(|at| (at % 249) as u8 ^ 0x5a).collect();
        for offset in [0, 1, 6, length - 3001] {
            let mut back = vec![0; pattern.len()];
            buffer.view().write(offset, &pattern)?;
            buffer.view().read(offset, &mut back)?;
            expect(back == pattern, format!("read back other bytes at {offset:#x}"))?;
        }
        expect(buffer.view().read(length - 1, &mut [0; 2]).is_err(), "the view exceeds the export")?;
    }
    for length in [0, total + page_bytes(), page_bytes() + 1] {
        expect(matches!(exporter.export(length), Err(Error::BadLength { .. })), format!("exported {length} bytes"))?;
    }
    Ok(())
}

/// Exports ranges that are not in BAR order. Bytes written across range boundaries must arrive at the offsets of the ranges in
/// the BAR.
fn many_ranges(whole: &VfioExporter, options: &OpenOptions) -> Outcomes {
    let page = page_bytes();
    let ranges = [
        BarRange { offset_bytes: 8 * page, length_bytes: 2 * page },
        BarRange { offset_bytes: 0, length_bytes: page },
        BarRange { offset_bytes: 64 * page, length_bytes: page },
    ];
    let bdf = whole.device().bdf();
    let bar = whole.origin().bar.ok_or("no BAR")?;
    let parts = VfioExporter::open(bdf, bar, &ranges, options)?;
    let buffer = parts.export(parts.length_bytes())?;
    let all = whole.export(whole.length_bytes())?;
    let text: Vec<u8> = (0..2 * page).map(|at| (at % 241) as u8).collect();
    buffer.view().write(2 * page - 100, &text)?;
    let mut back = vec![0; text.len()];
    let (first, rest) = back.split_at_mut(100);
    let (second, third) = rest.split_at_mut(usize::try_from(page)?);
    all.view().read(10 * page - 100, first)?;
    all.view().read(0, second)?;
    all.view().read(64 * page, third)?;
    expect(back == text, "the bytes are at other offsets of the BAR")?;
    let cut = parts.export(3 * page)?;
    expect(cut.origin().ranges == ranges[..2], format!("cut to {:?}", cut.origin().ranges))
}

/// Checks the errors of the kernel for arguments that the exporter would reject.
fn kernel_refuses(exporter: &VfioExporter) -> Outcomes {
    let (device, bar, page) = (exporter.device(), exporter.bar().index, page_bytes());
    let size = exporter.bar().size_bytes;
    let range = |offset_bytes, length_bytes| vec![BarRange { offset_bytes, length_bytes }];
    let cases = [
        ("no ranges", bar, vec![], libc::EINVAL),
        ("an empty range", bar, range(0, 0), libc::EINVAL),
        ("an unaligned offset", bar, range(1, page), libc::EINVAL),
        ("an unaligned length", bar, range(0, page - 1), libc::EINVAL),
        ("a range past the end", bar, range(size, page), libc::EINVAL),
        ("a range that exceeds 64 bits", bar, range(u64::MAX - page + 1, page), libc::EOVERFLOW),
        ("the ROM", 6, range(0, page), libc::ENODEV),
    ];
    for (name, bar, ranges, errno) in cases {
        let Err(error) = device.export_ranges(bar, &ranges) else { return Err(format!("exported {name}").into()) };
        let found = error.source().and_then(|source| source.downcast_ref::<io::Error>()?.raw_os_error());
        expect(found == Some(errno), format!("{name}: {found:?} instead of {errno}"))?;
        let cause = error.explanation().cause;
        expect(cause == Some(Cause::BarNotExportable), format!("{name}: {cause:?}"))?;
    }
    Ok(())
}

fn memory_off(exporter: &VfioExporter) -> Outcomes {
    let buffer = exporter.export(page_bytes())?;
    buffer.view().write(16, b"still here")?;
    let device = exporter.device();
    device.set_memory_enabled(false)?;
    expect(!device.memory_enabled()?, "memory decoding stayed on")?;
    let refused = buffer.view().read(16, &mut [0; 10]);
    exporter.export(page_bytes())?;
    device.set_memory_enabled(true)?;
    expect(
        refused.is_err_and(|error| error.to_string().contains("memory decoding")),
        "the view was read while memory decoding was off",
    )?;
    let mut back = [0; 10];
    buffer.view().read(16, &mut back)?;
    expect(&back == b"still here", "the bytes changed")
}

fn survives_reset(exporter: &VfioExporter) -> Outcomes {
    let buffer = exporter.export(page_bytes())?;
    for round in 0..3_u8 {
        exporter.device().reset()?;
        expect(exporter.device().memory_enabled()?, "memory decoding is off after the reset")?;
        let mut back = [0];
        buffer.view().write(0, &[round])?;
        buffer.view().read(0, &mut back)?;
        expect(back == [round], "read back other bytes after a reset")?;
    }
    Ok(())
}

fn bad_input(bdf: Bdf, bar: BarIndex) -> Outcomes {
    let page = page_bytes();
    let mut cases = vec![
        (format!("{bdf}:{bar}@0x1+{page:#x}"), "unaligned"),
        (format!("{bdf}:{bar}@0x0+{:#x},0x0+{page:#x}", 2 * page), "overlapping"),
        (format!("{bdf}:{bar}@0x0+0x0"), "empty"),
        (format!("{bdf}:{bar}@0x0+1024G"), "too long"),
        ("0000:ff:1f.7:0".to_owned(), "no function"),
    ];
    let present: Vec<_> = bars(&Tree::live(), bdf)?.iter().map(|bar| bar.index).collect();
    if let Some(absent) = (0..6).find(|index| !present.contains(index)) {
        cases.push((format!("{bdf}:{absent}"), "no BAR"));
    }
    for (text, name) in cases {
        let Err(error) = text.parse::<Source>()?.check() else { return Err(format!("accepted {name}").into()) };
        expect(error.severity() == peerpath_paths::Severity::BadInput, format!("{name}: {error}"))?;
    }
    is_restored(bdf, None)
}

fn one_at_a_time(bdf: Bdf, bar: BarIndex) -> Outcomes {
    let host = Options::default();
    let mut child = Killed(holder(bdf, bar)?);
    let second = Hold::acquire(bdf, &host);
    let pid = child.0.id();
    expect(
        matches!(&second, Err(error) if error.explanation().why.contains(&pid.to_string())),
        format!("a second process could hold the function: {:?}", second.err()),
    )?;
    let held = restore(&host)?;
    expect(matches!(held[..], [Restored { outcome: Outcome::Held { .. }, .. }]), format!("restored: {held:?}"))?;
    child.0.kill()?;
    child.0.wait()?;
    expect(driver(bdf).as_deref() == Some("vfio-pci"), "the function is not bound after SIGKILL")?;
    let restored = restore(&host)?;
    expect(restored.len() == 1 && restored[0].outcome.is_settled(), format!("restored: {restored:?}"))?;
    is_restored(bdf, None)
}

fn holder(bdf: Bdf, bar: BarIndex) -> io::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([&format!("{bdf}:{bar}"), "hold"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line)?;
    }
    if line == "held\n" { Ok(child) } else { Err(io::Error::other(line)) }
}

/// A child process, killed on drop.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn over_socket(bdf: Bdf, bar: BarIndex) -> Outcomes {
    let path = std::env::temp_dir().join(format!("peerpath-check-{}", std::process::id()));
    let _hold = Hold::acquire(bdf, &Options::default())?;
    let exporter = VfioExporter::open(bdf, bar, &[], &OpenOptions::default())?;
    let sender = DmaBufSender::new(&path, &exporter)?;
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let serving = scope.spawn(|| sender.serve(&stop));
        let outcome = receive(&path, &exporter);
        stop.store(true, Ordering::Relaxed);
        serving.join().map_err(|_| "the sender panicked")??;
        outcome
    });
    drop(sender);
    expect(!path.exists(), "the file of the socket remains")?;
    outcome
}

fn receive(path: &Path, exporter: &VfioExporter) -> Outcomes {
    let received = SocketExporter::connect(path)?;
    expect(received.origin() == exporter.origin(), "received another origin")?;
    let buffer = received.export(received.length_bytes())?;
    let text = vec![0xa7; 200_000];
    let mut back = vec![0; text.len()];
    let started = Instant::now();
    buffer.view().write(12_345, &text)?;
    exporter.export(exporter.length_bytes())?.view().read(12_345, &mut back)?;
    println!("        {} bytes through the socket and back in {:?}", text.len(), started.elapsed());
    expect(back == text, "read back other bytes")
}

fn bound_and_restored(other: &str) -> Outcomes {
    let bdf: Bdf = other.parse()?;
    let host = Options::default();
    let before = driver(bdf);
    let bound = bind(&[bdf], &host)?;
    expect(driver(bdf).as_deref() == Some("vfio-pci") && bound[0].from_driver == before, "not bound")?;
    let restored = restore(&host)?;
    expect(restored.len() == 1 && restored[0].outcome.is_settled(), format!("restored: {restored:?}"))?;
    is_restored(bdf, before.as_deref())
}

fn is_restored(bdf: Bdf, expected: Option<&str>) -> Outcomes {
    let found = driver(bdf);
    expect(found.as_deref() == expected, format!("{bdf} is bound to {found:?}"))?;
    let only = std::fs::read_to_string(format!("/sys/bus/pci/devices/{bdf}/driver_override"))?;
    expect(only.trim() == "(null)", format!("driver_override is {only}"))
}

fn driver(bdf: Bdf) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/bus/pci/devices/{bdf}/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn open_fds() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}
