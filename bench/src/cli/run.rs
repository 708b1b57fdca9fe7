//! `peerpath run`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peerpath_exporter::{Door, OpenOptions, Source};
use peerpath_importers::{IMPORTERS, Importer, Op, Role};
use peerpath_paths::{PathName, Tree};

use super::print;
use crate::environment::{Host, utc_now};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::plan::{Mechanism, Mode, Plan, Target};
use crate::result::{Outcome, RunResult};
use crate::route::Routes;
use crate::run::{Progress, Runner};
use crate::store::RESULT_FILE;
use crate::{table, units};

/// Move data between sources and targets, verify it, measure it, and save the result.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RunCommand {
    /// Memory to export: BDF:BAR[@OFF+LEN,...], socket:PATH, udmabuf:SIZE, heap:SIZE or host:SIZE
    #[arg(long, value_name = "SRC", required = true)]
    from: Vec<String>,
    #[arg(long, value_name = "TARGET", required = true, help = targets_help())]
    to: Vec<String>,
    /// Way that the data has to take: bypass, translated or bus-address, arranged where it can be and put back after;
    /// host-memory, staged (the BAR copied through host memory by the CPU), or refused where that is what should happen. A
    /// cell that is seen to take another one fails  [default: the one that is there]
    #[arg(long, value_name = "NAME")]
    path: Vec<PathName>,
    #[arg(long, value_name = "OP", help = ops_help())]
    op: Vec<Op>,
    /// completion: one at a time, gives latency; bandwidth: as many as --depth  [default: both]
    #[arg(long, value_name = "MODE", value_enum)]
    mode: Vec<Mode>,
    /// Bytes an operation, such as 4K  [default: 4K 64K 1M]
    #[arg(long, value_name = "S", value_parser = parse_size)]
    size: Vec<u64>,
    /// Ranges, with gaps between them, into which a BAR is cut: an operation lies over all of them. Ranges of less than
    /// 4 KiB are left out  [default: the BAR as it is named]
    #[arg(long, value_name = "N")]
    ranges: Vec<u32>,
    /// What becomes of many ranges. auto: one dma-buf and one registration of all; mr-per-range: one of each for every
    /// range, and operations within one
    #[arg(long, value_name = "M", value_enum, default_value = "auto", hide_possible_values = true)]
    mechanism: Mechanism,
    /// Operations under way in bandwidth mode  [default: 16]
    #[arg(long, value_name = "N")]
    depth: Vec<u32>,
    /// Operations a cell; with --duration whichever ends first  [default: 1000, or no end with --duration]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Time a cell, such as 500ms or 2s  [default: 5s, or no end with --iterations]
    #[arg(long, value_name = "T", value_parser = units::parse_duration)]
    duration: Option<Duration>,
    /// Operations before measuring
    #[arg(long, value_name = "N", default_value_t = 10)]
    warmup: u64,
    /// Take a NIC that is in use from its driver for a moment where --path needs that; its state, addresses, routes and RDMA
    /// links are made again, other settings are not. Never one that carries the default route or the login session,
    /// or soft RDMA that another program has open
    #[arg(long)]
    force_in_use: bool,
    /// Blocks of the one drive in --to that may be overwritten; without this it is only read
    #[arg(long, value_name = "LBA+COUNT")]
    allow_write: Option<String>,
    /// Way into VFIO: auto, group or cdev
    #[arg(long, value_name = "DOOR", default_value = "auto")]
    door: Door,
    /// Folder for result.json  [default: results/<UTC date-time>-<hostname>/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0
      BAR 2 of a function into an RDMA NIC: registration cost, write and read at three sizes
  peerpath run --from 0000:03:00.0:2 --from host:16M --to verbs:mlx5_0 --op write --size 4K --size 1M
      the same beside ordinary memory
  peerpath run --from 0000:03:00.0:2@0x0+0x10000,0x40000+0x10000 --to verbs:mlx5_0 --op register
      what two ranges in one dma-buf cost
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --op register --size 64M --ranges 1 --ranges 8 --ranges 512
      what registration costs by the number of ranges
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --path translated --path staged --op write --op read
      the BAR itself beside a copy of it in host memory
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --path bypass --path translated --force-in-use
      both ways through the root complex, whichever the host is set up for

The result is saved after every cell. Exit: 0 all passed, or passed and waived; 1 a cell failed; 2 bad input;
3 nothing could run here; 4 an I/O error; 129, 130 or 143 interrupted.";

fn targets_help() -> String {
    let one = |importer: &&dyn Importer| format!("{}, {}", importer.form(), importer.summary());
    format!("Device to import it: {}", IMPORTERS.iter().map(one).collect::<Vec<_>>().join("; "))
}

fn ops_help() -> String {
    let of = |importer: &&dyn Importer| {
        let names: Vec<_> = importer.ops().iter().map(|spec| spec.op.as_str()).collect();
        format!("{} of {}", names.join(", "), importer.kind())
    };
    let all: Vec<_> = IMPORTERS.iter().map(of).collect();
    format!("Operation: {}  [default: export, registering or mapping and back, write, read]", all.join("; "))
}

/// Where nothing was asked for: what the targets offer, control before transfers.
fn default_ops(targets: &[Target]) -> Vec<Op> {
    let specs = || targets.iter().flat_map(|target| target.importer.ops());
    let control = specs().filter(|spec| matches!(spec.role, Role::Export | Role::Register | Role::Unregister));
    let transfers = specs().filter(|spec| matches!(spec.op, Op::Write | Op::Read));
    let mut ops = Vec::new();
    for spec in control.chain(transfers) {
        if !ops.contains(&spec.op) {
            ops.push(spec.op);
        }
    }
    ops
}

/// The targets as they were named, the one of `allow_write` with the blocks that it speaks of.
fn targets(named: &[String], allow_write: Option<&str>) -> Result<Vec<Target>, Failure> {
    let Some(blocks) = allow_write else { return Ok(named.iter().map(|text| text.parse()).collect::<Result<_, _>>()?) };
    let what = || format!("--allow-write {blocks} is for one drive");
    let [only] = named else {
        return Err(Failure::bad_input(
            what(),
            "which of the targets it speaks of cannot be told",
            "name the blocks with the target, as in --to iommufd:BDF?write=LBA+COUNT",
        ));
    };
    let target: Target = only.parse()?;
    if !target.importer.form().contains("?write=") {
        return Err(Failure::bad_input(
            what(),
            format!("{only} has no blocks"),
            "leave it away: memory is written without asking",
        ));
    }
    Ok(vec![format!("{only}?write={blocks}").parse()?])
}

fn parse_size(text: &str) -> Result<u64, String> {
    peerpath_exporter::parse_bytes(text).ok_or_else(|| format!("{text:?} is no size; write 4096, 4K or 1M"))
}

/// `given`, or the default where nothing was given.
fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl RunCommand {
    fn plan(&self) -> Result<Plan, Failure> {
        let (iterations, duration) = match (self.iterations, self.duration) {
            (None, None) => (Some(1000), Some(Duration::from_secs(5))),
            given => given,
        };
        let sources: Vec<Source> = self.from.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let targets = targets(&self.to, self.allow_write.as_deref())?;
        Ok(Plan {
            sources,
            ops: or(&self.op, &default_ops(&targets)),
            targets,
            paths: if self.path.is_empty() { vec![None] } else { self.path.iter().copied().map(Some).collect() },
            modes: or(&self.mode, &[Mode::Completion, Mode::Bandwidth]),
            sizes_bytes: or(&self.size, &[4 << 10, 64 << 10, 1 << 20]),
            ranges: self.ranges.clone(),
            mechanism: self.mechanism,
            depths: or(&self.depth, &[16]),
            warmup: self.warmup,
            iterations,
            duration,
        })
    }

    pub(super) fn run(&self, arguments: &[OsString]) -> Result<ExitCode, Failure> {
        let plan = self.plan()?;
        plan.check()?;
        let host = Host::new(Tree::live());
        let interrupt = Interrupt::install()
            .map_err(|error| Failure::internal("signals cannot be caught", &error, "report this as a bug"))?;
        let open = OpenOptions { door: self.door, force_in_use: self.force_in_use, ..OpenOptions::default() };
        let folder = self.out.clone().unwrap_or_else(|| default_folder(&host));
        let mut runner = Runner {
            plan: &plan,
            arguments: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            open: &open,
            folder: &folder,
            interrupt: &interrupt,
            host,
            routes: Routes::live(),
        };
        let mut bar = Bar::new(plan.cell_count());
        let result = runner.run(&mut bar)?;
        bar.finish();
        conclude(&result, &folder, &interrupt)
    }
}

fn conclude(result: &RunResult, folder: &Path, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    let count = |outcome| result.cells.iter().filter(|cell| cell.outcome == outcome).count();
    let (passed, waived, failed) = (count(Outcome::Passed), count(Outcome::Waived), count(Outcome::Failed));
    print(&table::cells(result, table::terminal_width()))?;
    let mut summary = format!(
        "\n{passed} passed, {waived} waived, {failed} failed; saved to {}\n",
        folder.join(RESULT_FILE).display()
    );
    if result.environment.emulated {
        summary += "The devices are emulated: these figures say nothing of hardware.\n";
    }
    if result.environment.soft_rdma {
        summary += "A CPU did the RDMA: latencies here do not rank the paths.\n";
    }
    print(&summary)?;
    Ok(match interrupt.exit_code() {
        Some(code) => ExitCode::from(code),
        None if failed > 0 => ExitCode::from(1),
        None if passed == 0 => ExitCode::from(3),
        None => ExitCode::SUCCESS,
    })
}

fn default_folder(host: &Host) -> PathBuf {
    let hostname = host.name().unwrap_or_else(|| "unknown".into());
    // Colons are no good in the name of a folder that people hand around.
    PathBuf::from("results").join(format!("{}-{hostname}", utc_now().replace(':', "")))
}

/// A bar where someone watches, a line a cell where not.
struct Bar {
    bar: ProgressBar,
    watched: bool,
    done: usize,
    total: usize,
}

impl Bar {
    fn new(total: usize) -> Self {
        let watched = std::io::stderr().is_terminal();
        let bar = if watched { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {bar:24} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, watched, done: 0, total }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
        if !self.watched {
            // Nobody may be listening any more; that is no reason to stop.
            let _ = writeln!(std::io::stderr(), "[{}/{}] {what}", self.done + 1, self.total);
        }
    }

    fn end(&mut self) {
        self.done += 1;
        self.bar.inc(1);
    }
}
