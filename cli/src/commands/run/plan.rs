//! The plan of a run, from its options.

use std::time::Duration;

use peerpath_bench::cpus;
use peerpath_bench::failure::Failure;
use peerpath_bench::pattern::Pattern;
use peerpath_bench::plan::{Mechanism, Mode, Plan, Target};
use peerpath_importers::iommufd::Blocks;
use peerpath_importers::{Op, Revocation, Role, Transport};
use peerpath_paths::Tree;

use super::baselines::time_per_cell;
use super::mechanism::{self, MechanismChoice};
use super::options::RunCommand;
use super::values::Cpus;
use crate::names;

/// Default number of operations per repeat of a run that only revokes. One operation takes as long as a reset.
const REVOCATIONS_PER_REPEAT: u64 = 10;
/// Default maximum duration of such a repeat.
const REVOCATION_LIMIT: Duration = Duration::from_secs(60);

impl RunCommand {
    /// `served`: sources that the peer exports; `None` without a peer. With a peer, `--from` names memory of this host.
    pub(super) fn plan(&self, served: Option<&[String]>) -> Result<Plan, Failure> {
        let only_revokes = !self.op.is_empty() && self.op.iter().all(|op| Revocation::of(*op).is_some());
        let (sources, far) = match served {
            None => (names::sources(&self.from)?, Vec::new()),
            Some(served) => (names::sources(served)?, names::sources(&self.from)?),
        };
        if let (Some(source), Some(count)) =
            (self.from.iter().find(|source| source.contains('@')), self.ranges.iter().find(|count| **count > 1))
        {
            // The plan checks this too, but it does not know how the user wrote the source.
            return Err(Failure::bad_input(
                format!("cannot use --ranges {count} with --from {source}"),
                "the source names its ranges itself",
                "omit --ranges, or the ranges of the source (after the @)",
            ));
        }
        let targets = targets(&self.to, self.allow_write.as_deref())?;
        let (mechanism, targets) = match self.mechanism {
            MechanismChoice::Ranges(mechanism) => (mechanism, targets),
            MechanismChoice::Importer(name) => (Mechanism::Auto, mechanism::assign(targets, name)?),
        };
        let connection = self.queue_pairs.options();
        let default_ops = if served.is_none() { default_ops(&targets) } else { vec![Op::Write, Op::Read] };
        let ops = or(&self.op, &over(connection.transport, &targets, default_ops));
        let default_sizes: &[u64] = match connection.transport {
            _ if ops.iter().all(|op| op.is_atomic()) => &[8],
            // A datagram is one packet, and the smallest common MTU is 1 KiB.
            Transport::Ud => &[64, 256, 1 << 10],
            Transport::Rc | Transport::Uc => &[4 << 10, 64 << 10, 1 << 20],
        };
        let mut plan = Plan {
            sources,
            far,
            ops,
            targets,
            paths: or(&self.path.iter().copied().map(Some).collect::<Vec<_>>(), &[None]),
            modes: or(&self.mode, &[Mode::Completion, Mode::Bandwidth]),
            sizes_bytes: or(&self.size, default_sizes),
            ranges: or(&self.ranges, &[]),
            mechanism,
            depths: or(&self.depth, &[16]),
            qps: or(&self.qps, &[1]),
            rates_per_s: or(&self.rate, &[]),
            threads: or(&self.threads, &[1]),
            bidirectional: self.bidirectional,
            post_list: self.post_list,
            completion_moderation: self.completion_moderation,
            connection,
            cpus: self.cpus(&Tree::live())?,
            pin: !matches!(self.cpu, Some(Cpus::Any)),
            warmup: self.warmup,
            repeats: self.repeat,
            seed: self.seed.map_or_else(random_seed, u64::from),
            iterations: self.iterations,
            duration: self.duration,
        };
        self.add_baselines(&mut plan, &Tree::live());
        if (self.iterations, self.duration) == (None, None) {
            // Counts the cells only of a plan that is small enough.
            let cells = if plan.check().is_ok() { plan.cell_count() } else { 1 };
            let repeats = self.repeat.max(1);
            let (operations, time) = match only_revokes {
                true => (REVOCATIONS_PER_REPEAT * u64::from(repeats), REVOCATION_LIMIT * repeats),
                false => (1000, time_per_cell(cells)),
            };
            (plan.iterations, plan.duration) = (Some(operations), Some(time));
        }
        Ok(plan)
    }

    /// The CPUs of `--cpu` or `--numa-node`; all of them must be online.
    fn cpus(&self, tree: &Tree) -> Result<Vec<u32>, Failure> {
        let remedy = "see `lscpu --extended` for the CPUs and NUMA nodes of this host";
        if let Some(node) = self.numa_node {
            let missing = || {
                Failure::bad_input(
                    format!("cannot pin to NUMA node {node}"),
                    "this host does not have this node",
                    remedy,
                )
            };
            return cpus::of_node(tree, node).ok_or_else(missing);
        }
        let named = match &self.cpu {
            Some(Cpus::Listed(cpus)) => &cpus[..],
            Some(Cpus::Any) | None => &[],
        };
        match named.iter().find(|cpu| cpus::is_online(tree, **cpu) == Some(false)) {
            Some(cpu) => Err(Failure::bad_input(format!("cannot pin to CPU {cpu}"), "it is absent or offline", remedy)),
            None => Ok(named.to_vec()),
        }
    }
}

/// A random seed of 32 bits, which a JSON number represents exactly in every language.
fn random_seed() -> u64 {
    Pattern::random().seed() >> 32
}

/// Default operations of the targets: export, register and unregister (iommufd: map and unmap), then transfers.
fn default_ops(targets: &[Target]) -> Vec<Op> {
    let specs = || targets.iter().flat_map(|target| target.importer.capabilities().ops);
    let control = specs().filter(|spec| matches!(spec.role, Role::Export | Role::Register | Role::Unregister));
    let plain = [Op::Write, Op::Read, Op::CopyIn, Op::CopyOut, Op::KernelStore, Op::KernelLoad];
    let transfers = specs().filter(|spec| plain.contains(&spec.op));
    let mut ops = Vec::new();
    for spec in control.chain(transfers) {
        if !ops.contains(&spec.op) {
            ops.push(spec.op);
        }
    }
    ops
}

/// The default operations that the transport supports; a send if it supports no other transfer.
fn over(transport: Transport, targets: &[Target], mut ops: Vec<Op>) -> Vec<Op> {
    if targets.iter().any(|target| target.importer.capabilities().queue_pairs) {
        let is_transfer = |op: Op| matches!(op, Op::Write | Op::Read);
        ops.retain(|op| !is_transfer(*op) || transport.has(*op));
        if !ops.iter().any(|op| is_transfer(*op)) {
            ops.push(Op::Send);
        }
    }
    ops
}

/// Parses the targets. `--allow-write` becomes part of the only target.
fn targets(named: &[String], allow_write: Option<&str>) -> Result<Vec<Target>, Failure> {
    let Some(blocks) = allow_write else { return named.iter().map(|text| names::target(text)).collect() };
    let what = || format!("cannot use --allow-write {blocks}");
    let [only] = named else {
        return Err(Failure::bad_input(
            what(),
            "it applies to one drive, and --to names several targets",
            "name the blocks with each target: --to iommufd:BDF?write=LBA+COUNT",
        ));
    };
    let target = names::target(only)?;
    if !target.importer.usage().form.contains("?write=") {
        return Err(Failure::bad_input(
            what(),
            format!("{target} has no blocks"),
            "omit --allow-write: it applies only to NVMe drives (iommufd:BDF)",
        ));
    }
    if blocks.parse::<Blocks>().is_err() {
        return Err(Failure::bad_input(
            what(),
            "it does not name blocks",
            "write --allow-write LBA+COUNT: the first block and the number of blocks, e.g. 2048+16; their content is lost",
        ));
    }
    Ok(vec![format!("{target}?write={blocks}").parse()?])
}

/// The given values, each once, or the default.
fn or<T: Clone + PartialEq>(given: &[T], default: &[T]) -> Vec<T> {
    let mut values: Vec<T> = Vec::new();
    for value in if given.is_empty() { default } else { given } {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    values
}
