//! An NVMe drive transfers data by DMA: into a BAR, out of a BAR, and, as a baseline, into host memory.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use peerpath_exporter::vfio::{self, Access, AddressSpace};
use peerpath_exporter::{BarRange, Exporter, OpenOptions, UdmabufExporter, VfioExporter, VfioInterface};
use peerpath_importers::{
    Completion, DataPlane, DataPlaneSettings, Device, Error, Op, QueuePairOptions, Registration, Transfer, parse_target,
};
use peerpath_observe::FaultWatch;
use peerpath_paths::{Bdf, Cause, Explained};
use serde_json::Value;

use crate::Case;
use crate::command::{all_passed, cells, ioas_overhead, result, run, run_program, start, until};
use peerpath_host::Hold;

use crate::functions::{EXPORTER, NVME, bar_file, driver, hold};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, scenarios: &["default"], run };
    vec![
        case("nvme_reads_into_a_bar_and_into_host_memory", || bound(reads)),
        case("nvme_reads_the_data_of_its_image", || bound(equal_to_the_image)),
        case("nvme_writes_change_only_the_allowed_blocks", || bound(writes)),
        case("nvme_writes_need_allow_write", || bound(read_only)),
        case("nvme_reads_the_whole_drive_through_a_bar", || bound(whole_drive)),
        case("nvme_transfers_complete_when_the_exporter_is_reset", || bound(reset_in_flight)),
        case("nvme_cell_fails_when_the_exporter_dies", || bound(exporter_dies)),
        case("nvme_cell_times_out_when_the_drive_stops_responding", || bound(stops_answering)),
        case("nvme_is_restored_after_sigkill_at_any_point", killed),
        case("leaves_an_nvme_of_the_kernel_driver_alone", left_alone),
        case("iommufd_measures_map_and_unmap", || bound(map_cost)),
        case("iommufd_refusals_have_causes", || bound(refusals)),
        case("iommufd_maps_for_functions_without_a_dma_engine", no_engine),
        Case {
            name: "iommufd_translates_in_every_domain_type",
            scenarios: &["bypass", "bus-address"],
            run: || bound(translated),
        },
    ]
}

const MIB: u64 = 1 << 20;
const SIZES: [u32; 3] = [4 << 10, 64 << 10, 1 << 20];
const DEPTHS: [u32; 3] = [1, 8, 32];

/// Runs a test with the drive bound to vfio-pci, then checks that it is bound to the kernel's driver again.
fn bound(test: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    let nvme = nvme()?;
    run(&format!("bind {nvme}"))?.expect(0)?;
    let tested = test();
    run("restore")?.expect(0)?;
    tested?;
    is_usable()
}

fn nvme() -> Result<String, Failed> {
    crate::functions::named("nvme")
}

fn exporter() -> Result<String, Failed> {
    crate::functions::named("exporter")
}

/// Checks that the drive is bound to the kernel's driver and that its data equals the image.
fn is_usable() -> Result<(), Failed> {
    let nvme = nvme()?;
    until("the drive is bound to the kernel's driver", || driver(&nvme).as_deref() == Some("nvme"))?;
    until("the kernel's block device exists again", || fs::metadata("/dev/nvme0n1").is_ok_and(|file| !file.is_file()))?;
    let read = Command::new("dd")
        .args(["if=/dev/nvme0n1", "bs=64K", "count=16", "iflag=direct"])
        .stderr(Stdio::null())
        .output()?;
    let mut expected = vec![0; MIB as usize];
    fs::File::open(image_file()?)?.read_exact(&mut expected)?;
    if read.status.success() && read.stdout == expected {
        return Ok(());
    }
    Err(format!("the {} bytes that the kernel's driver read differ from the image", read.stdout.len()).into())
}

fn image_file() -> Result<String, Failed> {
    Ok(std::env::var("PEERPATH_LAB_NVME_IMAGE").map_err(|_| "the lab did not set PEERPATH_LAB_NVME_IMAGE")?)
}

/// Reads the whole image. This takes seconds, because the guest reads the host's file through file sharing.
fn image() -> Result<Vec<u8>, Failed> {
    Ok(fs::read(image_file()?)?)
}

struct Lab {
    exporter: VfioExporter,
    drive: Arc<dyn Device>,
    // Last field, because fields are dropped in order of declaration.
    _hold: Hold,
}

fn lab(write: &str) -> Result<Lab, Failed> {
    let _hold = hold(&exporter()?)?;
    let exporter =
        VfioExporter::open(exporter()?.parse()?, peerpath_paths::BarIndex::try_from(2)?, &[], &OpenOptions::default())?;
    Ok(Lab { exporter, drive: target(&format!("iommufd:{}{write}", nvme()?))?, _hold })
}

fn target(text: &str) -> Result<Arc<dyn Device>, Failed> {
    let (importer, address) = parse_target(text)?;
    Ok(importer.open(address, &QueuePairOptions::default())?)
}

/// Submits all transfers, as many at a time as the data plane accepts, and waits for their completions.
fn transfer_all(plane: &mut dyn DataPlane, transfers: &[Transfer]) -> Result<Vec<Completion>, Failed> {
    let (mut submitted, mut done, mut failure) = (0, Vec::new(), None);
    until("every transfer has completed", || {
        let step = plane.submit(&transfers[submitted..]).and_then(|taken| {
            submitted += taken;
            plane.poll(&mut done)
        });
        failure = step.err();
        failure.is_some() || done.len() == transfers.len()
    })?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(done),
    }
}

fn expect_transfers(plane: &mut dyn DataPlane, transfers: &[Transfer]) -> Result<(), Failed> {
    transfer_all(plane, transfers)?.into_iter().try_for_each(|completion| completion.result)?;
    Ok(())
}

/// Creates `depth` transfers at scattered offsets in the buffer and on the drive.
fn scattered(op: Op, size: u32, depth: u32, far_bytes: u64) -> Vec<Transfer> {
    let places = far_bytes / u64::from(size);
    let transfer = |index: u64| {
        let (in_buffer, on_drive) = (index * 3 % u64::from(depth), (index * 17 + 5) % places);
        Transfer::new(index, op, in_buffer * u64::from(size), on_drive * u64::from(size), size)
    };
    // Three is coprime to every depth, so no two transfers share an offset in the buffer.
    (0..u64::from(depth)).map(transfer).collect()
}

fn reads() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    run(&format!(
        "run --from {EXPORTER}:2 --from host:40M --to iommufd:{NVME} --path translated --path staged --path host-memory \
         --op read --mode bandwidth --size 4K --size 64K --size 1M --depth 1 --depth 8 --depth 32 --iterations 32 --out {}",
        out.path().display()
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    let passed = |kind: &str| -> Vec<Value> {
        let of_kind = |cell: &&Value| cell["source"]["kind"] == kind && cell["outcome"] == "passed";
        cells(&result).iter().filter(of_kind).cloned().collect()
    };
    let (bar, host) = (passed("vfio"), passed("host"));
    let staged = |cell: &Value| cell["path"]["observed"] == "staged";
    let (staged, direct): (Vec<Value>, Vec<Value>) = bar.into_iter().partition(staged);
    // Three sizes times three depths, per path.
    if (direct.len(), staged.len(), host.len()) != (9, 9, 9) {
        let outcomes: Vec<_> =
            cells(&result).iter().map(|cell| format!("{} {}", cell["id"], cell["outcome"])).collect();
        return Err(format!("expected nine passed cells per path: {outcomes:#?}").into());
    }
    expect_path(&direct, "host-bridge-translated")?;
    for cell in direct.iter().chain(&host) {
        if cell["direction"] != "into_source" || cell["engine"] != "device" || cell["verified_bytes"].is_null() {
            return Err(format!("expected a verified read into the source by the device: {cell:#}").into());
        }
    }
    Ok(())
}

/// Checks the predicted and the observed path; for a BAR, that the evidence shows the IOMMU mapping.
fn expect_path(cells: &[Value], path: &str) -> Result<(), Failed> {
    for cell in cells {
        let seen = cell["path"]["evidence"].to_string();
        let proven = path == "host-memory" || seen.contains("the IOMMU mapped IOVA");
        if cell["path"]["observed"] != path || cell["path"]["predicted"] != path || !proven {
            return Err(format!("expected {path}: {cell:#}").into());
        }
    }
    Ok(())
}

fn equal_to_the_image() -> Result<(), Failed> {
    let Lab { _hold, exporter, drive } = lab("")?;
    let image = image()?;
    let far_bytes = image.len() as u64;
    let buffer = exporter.export(32 * MIB)?;
    let registration = drive.register(Arc::clone(&buffer))?;
    for depth in DEPTHS {
        for size in SIZES {
            let mut plane = registration.data_plane(&DataPlaneSettings::simple(depth, far_bytes))?;
            let used = u64::from(size) * u64::from(depth);
            buffer.view().write(0, &vec![0xa5; used as usize])?;
            let transfers = scattered(Op::Read, size, depth, far_bytes);
            expect_transfers(&mut *plane, &transfers)?;
            for transfer in transfers {
                let mut found = vec![0; size as usize];
                buffer.view().read(transfer.buffer_offset, &mut found)?;
                if found != image[transfer.far_offset as usize..][..size as usize] {
                    return Err(format!("size {size}, depth {depth}: the BAR differs from the image").into());
                }
            }
        }
    }
    Ok(())
}

/// Blocks that may be overwritten: 40 MiB at offset 8 MiB.
const WRITABLE: &str = "16384+81920";
const WRITABLE_START: usize = 8 << 20;
const WRITABLE_BYTES: u64 = 40 << 20;

fn writes() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let before = image()?;
    run(&format!(
        "run --from {EXPORTER}:2 --from host:40M --to iommufd:{NVME} --op write --op read --mode bandwidth --size 4K --size 1M \
         --depth 1 --depth 4 --iterations 16 --allow-write {WRITABLE} --out {}",
        out.path().display()
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    all_passed(&result, 16)?;
    expect_path(&cells(&result)[..8], "host-bridge-translated")?;

    let Lab { _hold, exporter, drive } = lab(&format!("?write={WRITABLE}"))?;
    let buffer = exporter.export(32 * MIB)?;
    let registration = drive.register(Arc::clone(&buffer))?;
    let settings = |depth| DataPlaneSettings::simple(depth, WRITABLE_BYTES);
    // Each round reads the whole image, so test only some combinations of size and depth.
    for (round, (size, depth)) in [(4 << 10, 32), (64 << 10, 8), (1 << 20, 1), (1 << 20, 32)].into_iter().enumerate() {
        let mut plane = registration.data_plane(&settings(depth))?;
        let given: Vec<u8> = (0..size as usize * depth as usize).map(|at| (at / 13 + at + round) as u8).collect();
        buffer.view().write(0, &given)?;
        let transfers = scattered(Op::Write, size, depth, WRITABLE_BYTES);
        expect_transfers(&mut *plane, &transfers)?;
        drop(plane);
        let after = image()?;
        for transfer in transfers {
            let found = &after[WRITABLE_START + transfer.far_offset as usize..][..size as usize];
            if found != &given[transfer.buffer_offset as usize..][..size as usize] {
                return Err(format!("size {size}, depth {depth}: the image differs from the BAR").into());
            }
        }
    }
    let (after, end) = (image()?, WRITABLE_START + WRITABLE_BYTES as usize);
    if after[..WRITABLE_START] != before[..WRITABLE_START] || after[end..] != before[end..] {
        return Err("blocks outside --allow-write have changed".into());
    }
    let mut plane = registration.data_plane(&settings(1))?;
    for far_offset in [WRITABLE_BYTES, WRITABLE_BYTES - 2048, u64::MAX - 4095] {
        let transfer = Transfer::new(0, Op::Write, 0, far_offset, 4096);
        if plane.submit(&[transfer]).is_ok() {
            return Err(format!("a write at {far_offset:#x}, beyond the allowed range, was accepted").into());
        }
    }
    Ok(())
}

fn read_only() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let before = image()?;
    let arguments = |extra: &str| {
        format!(
            "run --from {EXPORTER}:2 --to iommufd:{NVME}{extra} --size 4K --iterations 5 --force --out {}",
            out.path().display()
        )
    };
    run(&arguments(" --op write"))?.expect(3)?.prints("no-permission")?;
    run(&arguments(" --op write --warmup 0"))?.expect(3)?.prints("LBA+COUNT")?;
    run(&arguments(" --allow-write 131071+2"))?.expect(2)?.prints("exceed the capacity of the drive")?;
    run(&arguments(" --allow-write 0+0"))?.expect(2)?.prints("LBA+COUNT")?;
    run(&arguments("?read=0+1"))?.expect(2)?.prints("write=LBA+COUNT")?;
    run(&arguments(" --op read --size 1000"))?.expect(0)?.prints("multiples of 512")?;
    if image()? == before { Ok(()) } else { Err("the drive was written without --allow-write".into()) }
}

fn whole_drive() -> Result<(), Failed> {
    let Lab { _hold, exporter, drive } = lab("")?;
    let image = image()?;
    let window = 16 * MIB;
    let buffer = exporter.export(window)?;
    let registration = drive.register(Arc::clone(&buffer))?;
    let mut plane = registration.data_plane(&DataPlaneSettings::simple(16, image.len() as u64))?;
    let mut found = vec![0; window as usize];
    for (number, expected) in image.chunks(window as usize).enumerate() {
        buffer.view().write(0, &vec![0x5a; window as usize])?;
        let start = number as u64 * window;
        let transfer = |index: u64| Transfer::new(index, Op::Read, index * MIB, start + index * MIB, MIB as u32);
        let transfers: Vec<_> = (0..expected.len() as u64 / MIB).map(transfer).collect();
        expect_transfers(&mut *plane, &transfers)?;
        buffer.view().read(0, &mut found)?;
        if &found[..expected.len()] != expected {
            return Err(format!("window {number} of the drive differs from its image").into());
        }
    }
    Ok(())
}

/// The exporter revokes its memory while 32 transfers are in flight. Each transfer completes, the IOMMU reports blocked
/// accesses, no more data arrives, and mapping again succeeds.
fn reset_in_flight() -> Result<(), Failed> {
    let Lab { _hold, exporter, drive } = lab("")?;
    let far_bytes = 64 * MIB;
    let mut faults = FaultWatch::start("/".as_ref())?;
    let drive_function: Bdf = nvme()?.parse()?;
    let image = image()?;
    for round in 0..3 {
        let buffer = exporter.export(32 * MIB)?;
        let registration = Arc::clone(&drive).register(Arc::clone(&buffer))?;
        let mut plane = registration.data_plane(&DataPlaneSettings::simple(32, far_bytes))?;
        let full = scattered(Op::Read, MIB as u32, 32, far_bytes);
        let taken = plane.submit(&full)?;
        if taken != full.len() {
            return Err(format!("{taken} of {} transfers were accepted", full.len()).into());
        }
        exporter.device().reset()?;
        let (mut done, mut failure) = (Vec::new(), None);
        until("every transfer has completed", || {
            failure = plane.poll(&mut done).err();
            failure.is_some() || done.len() == taken
        })?;
        // From here on, no data may arrive, and the IOMMU reports the blocked accesses.
        buffer.view().write(0, &vec![0x5a; 32 * MIB as usize])?;
        if failure.is_none() {
            let _ = transfer_all(&mut *plane, &full[..8])?;
        }
        let mut found = vec![0; 32 * MIB as usize];
        buffer.view().read(0, &mut found)?;
        if found.iter().any(|byte| *byte != 0x5a) {
            return Err("bytes arrived through a revoked mapping".into());
        }
        // Check only the first round: the kernel limits the rate of these reports, and later rounds begin before the next
        // report.
        if round == 0 {
            until("the IOMMU reported blocked accesses", || {
                faults.faults().is_ok_and(|faults| faults.iter().any(|fault| fault.device == Some(drive_function)))
            })?;
        }
        drop(plane);
        registration.unregister()?;

        let again = Arc::clone(&drive).register(Arc::clone(&buffer))?;
        let mut plane = again.data_plane(&DataPlaneSettings::simple(32, far_bytes))?;
        expect_transfers(&mut *plane, &full[..8])?;
        for transfer in &full[..8] {
            let mut found = vec![0; MIB as usize];
            buffer.view().read(transfer.buffer_offset, &mut found)?;
            if found != image[transfer.far_offset as usize..][..MIB as usize] {
                return Err("the BAR differs from the image after it was mapped again".into());
            }
        }
    }
    Ok(())
}

/// Like `reset_in_flight`, but with a whole run and another process as exporter: the kernel revokes the memory when that process
/// exits.
fn exporter_dies() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let socket = out.path().join("bar.sock");
    let mut exporting = start(&format!("export {EXPORTER}:2 --socket {}", socket.display()))?;
    until("the exporter listens", || socket.exists())?;
    let running = start(&format!(
        "run --from socket:{} --to iommufd:{NVME} --op read --mode completion --mode bandwidth --size 64K --depth 32 \
         --duration 3s --out {}",
        socket.display(),
        out.path().display()
    ))?;
    until("the first cell is saved", || result(out.path()).is_ok_and(|result| !cells(&result).is_empty()))?;
    // Wait until the second cell runs with a full queue.
    std::thread::sleep(Duration::from_secs(2));
    exporting.signal("KILL")?;
    running.wait()?.expect(1)?;
    let result = result(out.path())?;
    let cell = &cells(&result)[1];
    if cell["outcome"] != "failed" || !cell["path"]["evidence"].to_string().contains("the IOMMU reported") {
        return Err(format!("expected a failed cell with an IOMMU fault: {cell:#}").into());
    }
    exporting.wait()?;
    run("restore")?.expect(0)?;
    run(&format!("bind {NVME}"))?.expect(0)?;
    run(&format!(
        "run --from {EXPORTER}:2 --to iommufd:{NVME} --op read --size 4K --iterations 5 --force --out {}",
        out.path().display()
    ))?
    .expect(0)
    .map(drop)
}

/// Python script that disables the controller while the run uses it, so that the drive neither responds nor reports an
/// error.
const SILENCE: &str = "
import ctypes, mmap, sys
with open(sys.argv[1], 'r+b') as bar, mmap.mmap(bar.fileno(), 4096) as memory:
    register = ctypes.c_uint32.from_buffer(memory, 0x14)
    enabled = register.value
    if enabled & 1:
        register.value = enabled & ~1
    del register
    sys.exit(0 if enabled & 1 else 3)
";

fn stops_answering() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let running = start(&format!(
        "run --from {EXPORTER}:2 --to iommufd:{NVME} --op read --mode completion --size 4K --size 64K --size 1M --duration 10s --out {}",
        out.path().display()
    ))?;
    until("the run has begun", || result(out.path()).is_ok())?;
    // Wait until the driver has probed the drive. Depending on the load of the machine, the
    // controller is disabled during the first or the second cell.
    std::thread::sleep(Duration::from_secs(5));
    // Between two cells the drive is reset, and its controller is disabled for a moment.
    until("the controller is enabled", || silence().is_ok())?;
    running.wait()?.expect(1)?;
    let result = result(out.path())?;
    let outcomes: Vec<_> = cells(&result).iter().map(|cell| (&cell["outcome"], &cell["cause"])).collect();
    let failed = outcomes.iter().position(|(outcome, _)| *outcome == "failed");
    let timed_out = failed.is_some_and(|at| outcomes[at].1 == "timed-out");
    let passed_after = failed.is_some_and(|at| outcomes.get(at + 1).is_some_and(|(outcome, _)| *outcome == "passed"));
    if timed_out && passed_after {
        return Ok(());
    }
    Err(format!("expected one cell to time out and the next to pass after the reset of the drive: {outcomes:?}").into())
}

fn silence() -> Result<(), Failed> {
    let ended = Command::new("python3").args(["-c", SILENCE]).arg(bar_file(NVME, 0)).output()?;
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("cannot disable the controller: {} {}", ended.status, String::from_utf8_lossy(&ended.stderr)).into())
}

/// Kills the run at several times between its start and the middle of a transfer.
fn killed() -> Result<(), Failed> {
    for delay_ms in [0, 200, 700, 1500, 3000, 6000] {
        let out = tempfile::tempdir()?;
        run(&format!("bind {NVME}"))?.expect(0)?;
        let mut running = start(&format!(
            "run --from {EXPORTER}:2 --to iommufd:{NVME} --op map --op write --op read --op unmap --size 64K --depth 32 \
             --duration 2s --allow-write {WRITABLE} --out {}",
            out.path().display()
        ))?;
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.signal("KILL")?;
        let _ = running.wait()?;
        run("restore")?.expect(0)?;
        is_usable().map_err(|error| format!("killed after {delay_ms} ms: {}", error.message().unwrap_or("?")))?;
        if driver(EXPORTER).is_some() {
            return Err(format!("killed after {delay_ms} ms: the exporter is still bound").into());
        }
    }
    Ok(())
}

fn left_alone() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    run(&format!("run --from {EXPORTER}:2 --to iommufd:{NVME} --op read --size 4K --out {}", out.path().display()))?
        .expect(3)?
        .prints(&format!("peerpath bind {NVME}"))?;
    if out.path().join("result.json").exists() {
        return Err("the run saved a result although no cell could run".into());
    }
    is_usable()
}

fn map_cost() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    run(&format!(
        "run --from {EXPORTER}:2 --from host:64M --to iommufd:{NVME} --op map --op unmap --size 4K --size 64K --size 1M \
         --size 16M --size 64M --iterations 50 --out {}",
        out.path().display()
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    all_passed(&result, 20)?;
    for cell in cells(&result) {
        if cell["latency_ns"]["p50"].as_u64().unwrap_or(0) == 0 || cell["iterations"] != 50 {
            return Err(format!("expected 50 iterations and a latency: {cell:#}").into());
        }
    }
    let steps = tempfile::tempdir()?;
    run(&format!(
        "run --from {EXPORTER}:2 --to iommufd:{NVME} --op attach,detach --size 1M --iterations 20 --out {}",
        steps.path().display()
    ))?
    .expect(0)?;
    all_passed(&crate::command::result(steps.path())?, 2)?;
    // Print peerpath's overhead without checking it, because the clock is emulated.
    let overhead = run_program(&ioas_overhead(), &format!("{EXPORTER}:2 {NVME}"))?.expect(0)?;
    println!("{}", overhead.stdout);
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let Lab { _hold, exporter, drive } = lab("")?;
    let cause =
        |refused: Result<Box<dyn Registration>, Error>| refused.err().and_then(|error| error.explanation().cause);
    let expect = |what: &str, found: Option<Cause>, cause: Cause| match found {
        Some(found) if found == cause => Ok(()),
        other => Err(Failed::from(format!("{what}: expected {cause}, found {other:?}"))),
    };

    let range = |offset_bytes| BarRange { offset_bytes, length_bytes: 8192 };
    let bdf = exporter.device().bdf();
    let ranges = VfioExporter::open(
        bdf,
        peerpath_paths::BarIndex::try_from(2)?,
        &[range(0), range(65536)],
        &OpenOptions::default(),
    )?;
    expect("two ranges", cause(Arc::clone(&drive).register(ranges.export(16384)?)), Cause::OneRangeOnly)?;

    let foreign = UdmabufExporter::open(MIB)?.export(MIB)?;
    expect("a dma-buf of udmabuf", cause(Arc::clone(&drive).register(foreign)), Cause::ForeignDmaBuf)?;

    let buffer = exporter.export(MIB)?;
    exporter.device().set_memory_enabled(false)?;
    let revoked = cause(Arc::clone(&drive).register(Arc::clone(&buffer)));
    exporter.device().set_memory_enabled(true)?;
    expect("memory decoding off", revoked, Cause::Revoked)?;
    // The same dma-buf can be mapped again.
    Arc::clone(&drive).register(Arc::clone(&buffer))?.unregister()?;
    drop(drive);

    let space = AddressSpace::of(&vfio::Device::open_through(nvme()?.parse()?, VfioInterface::Cdev)?)?;
    let dma_buf = buffer.dma_buf().ok_or("the buffer of a BAR is not a dma-buf")?;
    let map = |length_bytes, access| AddressSpace::map_dma_buf(Arc::clone(&space), dma_buf, length_bytes, access);
    let none = Access { read: false, write: false };
    let einval =
        |refused: std::io::Result<_>| refused.err().and_then(|error: std::io::Error| error.raw_os_error()) == Some(22);
    if !einval(map(MIB, none)) || !einval(map(2 * MIB, Access::BOTH)) {
        return Err("expected EINVAL for a mapping without access and for one beyond the dma-buf".into());
    }
    for access in [Access { read: true, write: false }, Access { read: false, write: true }] {
        map(MIB, access)?.unmap()?;
    }
    Ok(())
}

fn no_engine() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    // Any function that is not a drive.
    let other = crate::functions::SWITCH_EXPORTER;
    run(&format!(
        "run --from {EXPORTER}:2 --to iommufd:{other} --op map --op read --size 4K --iterations 5 --out {}",
        out.path().display()
    ))?
    .expect(0)?
    .prints("only NVMe drives")?;
    let result = result(out.path())?;
    let outcomes: Vec<_> = cells(&result).iter().map(|cell| cell["outcome"].clone()).collect();
    if outcomes == ["passed", "waived", "waived"] { Ok(()) } else { Err(format!("{result:#}").into()) }
}

/// An IOAS translates even if the IOMMU group has an identity domain, or if P2PDMA would route through a switch.
fn translated() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let (exporter, nvme) = (exporter()?, nvme()?);
    run(&format!(
        "run --from {exporter}:2 --to iommufd:{nvme} --op map --op read --size 64K --iterations 10 --path translated --out {}",
        out.path().display()
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    all_passed(&result, 3)?;
    expect_path(cells(&result), "host-bridge-translated")
}
