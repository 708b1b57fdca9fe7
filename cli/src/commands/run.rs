//! `peerpath run`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use peerpath_bench::cpus;
use peerpath_bench::environment::{Host, utc_now};
use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::peer::client::Client;
use peerpath_bench::peer::token::{self, Token};
use peerpath_bench::plan::{Mechanism, Mode, Plan, Target};
use peerpath_bench::result::{Outcome, RunResult};
use peerpath_bench::route::Routes;
use peerpath_bench::run::{Progress, Runner};
use peerpath_bench::store::RESULT_FILE;
use peerpath_exporter::{OpenOptions, Source, VfioInterface, set_guard};
use peerpath_importers::{IMPORTERS, Importer, MechanismSpec, Op, QueuePairOptions, Role, Transport};
use peerpath_paths::{PathName, Tree};

use super::tool;
use crate::table;
use crate::terminal::{self, print};

/// Move data between sources and targets, verify it, measure it, and save the result.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RunCommand {
    /// Options of this command as TOML: a key is an option's long name, a list gives it several times. What stands on the
    /// command line counts more
    #[arg(value_name = "PLAN.toml")]
    plan: Option<PathBuf>,
    /// Memory to export: BDF:BAR[@OFF+LEN,...], socket:PATH, udmabuf:SIZE, heap:SIZE, cuda:N:SIZE or host:SIZE. With --peer, memory of
    /// this host at the other end  [default there: host memory that fits]
    #[arg(long, value_name = "SRC", required_unless_present = "peer")]
    from: Vec<String>,
    #[arg(long, value_name = "TARGET", required = true, help = targets_help())]
    to: Vec<String>,
    /// Host on which `peerpath serve` runs: transfers go to and from its memory
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    /// File with the token that both hosts know  [default: the environment's PEERPATH_TOKEN]
    #[arg(long, value_name = "FILE", requires = "peer")]
    token_file: Option<PathBuf>,
    /// Way that the data has to take: bypass, translated or bus-address, arranged where it can be and put back after;
    /// host-memory, staged (the BAR copied through host memory by the CPU), or refused where that is what should happen. A
    /// cell that is seen to take another one fails. Of several, a source takes those that its kind has  [default: the one that
    /// is there]
    #[arg(long, value_name = "NAME")]
    path: Vec<PathName>,
    #[arg(long, value_name = "OP", help = ops_help())]
    op: Vec<Op>,
    /// completion: one at a time, from its posting to its completion; pingpong: there and back, half of each round trip;
    /// bandwidth: as many as --depth  [default: completion and bandwidth]
    #[arg(long, value_name = "MODE", value_parser = modes(), hide_possible_values = true)]
    mode: Vec<Mode>,
    /// Bytes an operation, such as 4K  [default: 4K 64K 1M]
    #[arg(long, value_name = "S", value_parser = parse_size)]
    size: Vec<u64>,
    /// Ranges, with gaps between them, into which a BAR is cut: an operation lies over all of them. Ranges of less than
    /// 4 KiB are left out  [default: the BAR as it is named]
    #[arg(long, value_name = "N")]
    ranges: Vec<u32>,
    #[arg(long, value_name = "M", default_value = "auto", value_parser = parse_mechanism, help = mechanisms_help())]
    mechanism: AskedMechanism,
    /// Operations under way in bandwidth mode, on each queue pair  [default: 16]
    #[arg(long, value_name = "N")]
    depth: Vec<u32>,
    /// Threads, each with queue pairs and a part of the source of its own, or with registrations of its own  [default: 1]
    #[arg(long, value_name = "N")]
    threads: Vec<u32>,
    /// Queue pairs of each thread, used in turn in bandwidth mode  [default: 1]
    #[arg(long, value_name = "N")]
    qps: Vec<u32>,
    /// In bandwidth mode both sides post at once; both are told
    #[arg(long)]
    bidirectional: bool,
    /// Operations handed to the device at once  [default: as many as there is room for]
    #[arg(long, value_name = "N")]
    post_list: Option<u32>,
    /// In bandwidth mode one of so many operations on a queue pair has a completion
    #[arg(long, value_name = "N", default_value_t = 1)]
    completion_moderation: u32,
    /// Processors for the threads, one each, in turn, such as 2 or 0-3,8. In ping-pong the threads that answer come
    /// behind them, and no two share one  [default: wherever the kernel puts them]
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpu: Option<Cpus>,
    /// Take the processors of that NUMA node
    #[arg(long, value_name = "N", conflicts_with = "cpu")]
    numa_node: Option<u32>,
    /// Operations a cell, of each thread and direction; with --duration whichever ends first  [default: 1000, or no end with --duration]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Time a cell, such as 500ms or 2s  [default: 5s, or no end with --iterations]
    #[arg(long, value_name = "T", value_parser = parse_duration)]
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
    /// VFIO interface to use: auto, group or cdev
    #[arg(long, alias = "door", value_name = "INTERFACE", default_value = "auto")]
    vfio: VfioInterface,
    /// Folder for result.json  [default: results/<UTC date-time>-<hostname>/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// How queue pairs of RDMA devices are made and connected.
#[derive(Debug, Args)]
#[command(next_help_heading = "Queue pairs of RDMA devices")]
struct ConnectionOptions {
    /// rc (reliable), uc (no acknowledgements: writes and sends), ud (datagrams: sends of one packet)
    #[arg(long, value_name = "KIND", default_value_t)]
    connection: Transport,
    /// Bytes a packet carries  [default: what the port has]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Place of the source address in the port's table  [default: the best, RoCE v2 over IPv4 first]
    #[arg(long, value_name = "N")]
    gid_index: Option<u8>,
    /// Messages up to this length travel in the work request
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    inline: u32,
    /// Service level
    #[arg(long, value_name = "N", default_value_t = 0)]
    service_level: u8,
    /// Traffic class
    #[arg(long, value_name = "N", default_value_t = 0)]
    traffic_class: u8,
    /// Let the device reorder its accesses to the memory
    #[arg(long)]
    relaxed_ordering: bool,
    /// Sleep until a completion comes, rather than poll for it
    #[arg(long)]
    events: bool,
    /// Put host: memory and the far side into huge pages of 2 MiB
    #[arg(long)]
    hugepages: bool,
}

impl ConnectionOptions {
    fn connection(&self) -> QueuePairOptions {
        QueuePairOptions {
            transport: self.connection,
            mtu_bytes: self.mtu,
            gid_index: self.gid_index,
            service_level: self.service_level,
            traffic_class: self.traffic_class,
            inline_bytes: self.inline,
            relaxed_ordering: self.relaxed_ordering,
            events: self.events,
            huge_pages: self.hugepages,
        }
    }
}

/// Numbers of processors.
#[derive(Debug, Clone)]
struct Cpus(Vec<u32>);

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    cpus::parse_list(text).map(Cpus).ok_or_else(|| format!("{text:?} is no list of processors; write 2 or 0-3,8"))
}

/// How a buffer is to be made known to a target.
#[derive(Debug, Clone, Copy)]
enum AskedMechanism {
    /// What becomes of many ranges.
    Ranges(Mechanism),
    /// One that the importer of a target offers.
    OfTarget(&'static str),
}

const RANGES: [(&str, Mechanism); 2] = [("auto", Mechanism::Auto), ("mr-per-range", Mechanism::MrPerRange)];

fn parse_mechanism(text: &str) -> Result<AskedMechanism, String> {
    let of_targets = || IMPORTERS.iter().flat_map(|importer| importer.capabilities().mechanisms).map(|spec| spec.name);
    if let Some((_, mechanism)) = RANGES.iter().find(|(name, _)| *name == text) {
        return Ok(AskedMechanism::Ranges(*mechanism));
    }
    of_targets().find(|name| *name == text).map(AskedMechanism::OfTarget).ok_or_else(|| {
        let names: Vec<_> = RANGES.iter().map(|(name, _)| *name).chain(of_targets()).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

fn mechanisms_help() -> String {
    let of = |importer: &&dyn Importer| {
        let one = |spec: &MechanismSpec| format!("{} ({})", spec.name, spec.summary);
        let all: Vec<_> = importer.capabilities().mechanisms.iter().map(one).collect();
        (!all.is_empty()).then(|| format!(". Of {}: {}", importer.kind(), all.join(", ")))
    };
    let offered: String = IMPORTERS.iter().filter_map(of).collect();
    format!(
        "How buffers are registered. auto: one dma-buf and one registration of all ranges, by whatever the target takes; \
         mr-per-range: one of each for every range, and operations within one{offered}"
    )
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
  peerpath run --from host:64M --to verbs:mlx5_0 --op write --mode pingpong --size 8 --inline 64
      what ib_write_lat measures
  peerpath run --from host:1G --to verbs:mlx5_0 --op write --mode bandwidth --size 64K --depth 128 --qps 4 \\
               --completion-moderation 100 --duration 10s
      what ib_write_bw measures
  peerpath run --from cuda:0:64M --to verbs:mlx5_0
      memory of a GPU into an RDMA NIC: GPUDirect RDMA by dma-buf
  peerpath run --from 0000:03:00.0:2 --from host:256M --to cuda:0 --size 64M --iterations 100
      a GPU that copies to and from a BAR, and to and from pinned host memory, by copy engines and by a kernel
  peerpath run nightly.toml --size 64K
      a plan kept in a file, at another size
  peerpath run --peer 192.0.2.7 --to verbs:mlx5_0 --token-file token
      to and from the memory that `peerpath serve` serves on another host

The result is saved after every cell. Exit: 0 all passed, or passed and waived; 1 a cell failed; 2 bad input;
3 nothing could run here; 4 an I/O error; 129, 130 or 143 interrupted.";

fn targets_help() -> String {
    let one = |importer: &&dyn Importer| format!("{}, {}", importer.usage().form, importer.usage().summary);
    format!("Device to import it: {}", IMPORTERS.iter().map(one).collect::<Vec<_>>().join("; "))
}

fn ops_help() -> String {
    let of = |importer: &&dyn Importer| {
        let names: Vec<_> = importer.capabilities().ops.iter().map(|spec| spec.op.as_str()).collect();
        format!("{} of {}", names.join(", "), importer.kind())
    };
    let all: Vec<_> = IMPORTERS.iter().map(of).collect();
    format!(
        "Operation: {}  [default: export, registering or mapping and back, write, read, copies, loads and stores]",
        all.join("; ")
    )
}

/// Where nothing was asked for: what the targets offer, control before transfers.
fn default_ops(targets: &[Target]) -> Vec<Op> {
    let specs = || targets.iter().flat_map(|target| target.importer.capabilities().ops);
    let control = specs().filter(|spec| matches!(spec.role, Role::Export | Role::Register | Role::Unregister));
    let usual = [Op::Write, Op::Read, Op::CopyIn, Op::CopyOut, Op::KernelStore, Op::KernelLoad];
    let transfers = specs().filter(|spec| usual.contains(&spec.op));
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
    if !target.importer.usage().form.contains("?write=") {
        return Err(Failure::bad_input(
            what(),
            format!("{only} has no blocks"),
            "leave it away: memory is written without asking",
        ));
    }
    Ok(vec![format!("{only}?write={blocks}").parse()?])
}

/// The targets, each to be reached by this mechanism.
fn by_mechanism(targets: Vec<Target>, name: &str) -> Result<Vec<Target>, Failure> {
    let one = |target: Target| {
        if !target.importer.capabilities().mechanisms.iter().any(|spec| spec.name == name) {
            return Err(Failure::bad_input(
                format!("--mechanism {name} is none of {target}"),
                format!("{} offers it not", target.importer.kind()),
                "leave it out, or name a target that has it",
            ));
        }
        Ok(format!("{target}?mechanism={name}").parse()?)
    };
    targets.into_iter().map(one).collect()
}

/// Reads a time such as `500ms`, `2s`, `1m`; a bare number is seconds.
///
/// # Errors
/// A sentence for the command line.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let duration = humantime::parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
        .map_err(|error| format!("{error}; write 500ms, 2s or 1m"))?;
    if duration.is_zero() || duration > Duration::from_secs(7 * 24 * 3600) {
        return Err(format!("{text:?} is not between 1ns and 7 days"));
    }
    Ok(duration)
}

/// Modes by the name that results have for them.
fn modes() -> impl TypedValueParser<Value = Mode> {
    let named = |name: String| Mode::ALL.into_iter().find(|mode| mode.as_str() == name);
    PossibleValuesParser::new(Mode::ALL.map(Mode::as_str)).map(move |name| named(name).expect("clap checked the name"))
}

fn parse_size(text: &str) -> Result<u64, String> {
    peerpath_exporter::parse_bytes(text).ok_or_else(|| format!("{text:?} is no size; write 4096, 4K or 1M"))
}

/// `given`, or the default where nothing was given.
fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl RunCommand {
    /// `served`: the sources of the server, where there is one.
    fn plan(&self, served: Option<&[String]>) -> Result<Plan, Failure> {
        let (iterations, duration) = match (self.iterations, self.duration) {
            (None, None) => (Some(1000), Some(Duration::from_secs(5))),
            given => given,
        };
        let named = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<Vec<Source>, _>>();
        let (sources, far) = match served {
            None => (named(&self.from)?, Vec::new()),
            Some(served) => (named(served)?, named(&self.from)?),
        };
        let targets = targets(&self.to, self.allow_write.as_deref())?;
        let (mechanism, targets) = match self.mechanism {
            AskedMechanism::Ranges(mechanism) => (mechanism, targets),
            AskedMechanism::OfTarget(name) => (Mechanism::Auto, by_mechanism(targets, name)?),
        };
        Ok(Plan {
            sources,
            far,
            ops: if served.is_none() {
                or(&self.op, &default_ops(&targets))
            } else {
                or(&self.op, &[Op::Write, Op::Read])
            },
            targets,
            paths: if self.path.is_empty() { vec![None] } else { self.path.iter().copied().map(Some).collect() },
            modes: or(&self.mode, &[Mode::Completion, Mode::Bandwidth]),
            sizes_bytes: or(&self.size, &[4 << 10, 64 << 10, 1 << 20]),
            ranges: self.ranges.clone(),
            mechanism,
            depths: or(&self.depth, &[16]),
            qps: or(&self.qps, &[1]),
            threads: or(&self.threads, &[1]),
            bidirectional: self.bidirectional,
            post_list: self.post_list,
            completion_moderation: self.completion_moderation,
            connection: self.connection.connection(),
            cpus: self.cpus(&Tree::live())?,
            warmup: self.warmup,
            iterations,
            duration,
        })
    }

    /// The processors that were named, which have to be there.
    fn cpus(&self, tree: &Tree) -> Result<Vec<u32>, Failure> {
        let remedy = "see `lscpu --extended`, or leave the option out";
        if let Some(node) = self.numa_node {
            let none = || Failure::bad_input(format!("there is no NUMA node {node}"), "the kernel knows none", remedy);
            return cpus::of_node(tree, node).ok_or_else(none);
        }
        let named = self.cpu.as_ref().map_or(&[][..], |cpus| &cpus.0);
        match named.iter().find(|cpu| cpus::is_online(tree, **cpu) == Some(false)) {
            Some(cpu) => Err(Failure::bad_input(format!("processor {cpu} is not there"), "it is not online", remedy)),
            None => Ok(named.to_vec()),
        }
    }

    /// Gets to know the peer, once it is clear that nothing here is a slip.
    fn meet(&self, at: &str, interrupt: &Interrupt) -> Result<Client, Failure> {
        if self.path.contains(&PathName::Staged) {
            return Err(Failure::bad_input(
                "--path staged is a matter of one host",
                "no device copies through the peer's memory",
                "leave it out, or measure it on the other host alone",
            ));
        }
        self.plan(Some(&["host:1".to_owned()]))?.check()?;
        let token = Token::find(self.token_file.as_deref(), std::env::var_os(token::VARIABLE))?;
        let token = token.ok_or_else(|| {
            Failure::bad_input(
                "there is no token to show to the peer",
                format!("neither --token-file nor {} is given", token::VARIABLE),
                "give the one that `peerpath serve` was given, or has printed",
            )
        })?;
        Client::connect(at, &token, interrupt)
    }

    pub(super) fn run(&self, arguments: &[OsString]) -> Result<ExitCode, Failure> {
        if let Some(file) = &self.plan
            && arguments.get(2).map(OsString::as_os_str) != Some(file.as_os_str())
        {
            return Err(Failure::bad_input(
                format!("the plan {} was not read", file.display()),
                "it stands behind other options",
                "name it right behind `run`",
            ));
        }
        let interrupt = Interrupt::install()
            .map_err(|error| Failure::internal("signals cannot be caught", &error, "report this as a bug"))?;
        let peer = match self.peer.as_ref().map(|at| self.meet(at, &interrupt)).transpose() {
            Ok(peer) => peer,
            // Whoever sent the signal knows why nobody was met.
            Err(failure) => return interrupt.exit_code().map(ExitCode::from).ok_or(failure),
        };
        let plan = self.plan(peer.as_ref().map(|peer| &peer.offer().sources[..]))?;
        plan.check()?;
        let host = Host::new(Tree::live());
        let open = OpenOptions { vfio: self.vfio, huge_pages: self.connection.hugepages };
        let changes = peerpath_host::Options { force_in_use: self.force_in_use, ..peerpath_host::Options::default() };
        set_guard(Arc::new(changes.clone()));
        let folder = self.out.clone().unwrap_or_else(|| default_folder(&host));
        let mut runner = Runner {
            plan: &plan,
            tool: tool(),
            arguments: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            open: &open,
            changes: &changes,
            folder: &folder,
            interrupt: &interrupt,
            host,
            routes: Routes::live(),
            peer: peer.as_ref(),
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
    print(&table::cells(result, terminal::width()))?;
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
    summary.extend(result.run.warnings.iter().map(|warning| format!("Warning: {warning}.\n")));
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

    fn failed(&mut self, failure: &Failure) {
        terminal::report(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        for wrong in ["", "s", "-1s", "1e99", "5 parsecs", "0s", "nan", "1..2s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
