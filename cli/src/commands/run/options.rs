//! The options of `run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use peerpath_bench::plan::Mode;
use peerpath_exporter::VfioInterface;
use peerpath_importers::Op;
use peerpath_paths::PathName;
use peerpath_report::units::RateUnit;

use super::help::after_help;
use super::mechanism::{self, MechanismChoice};
use super::queue_pairs::QueuePairArguments;
use super::values::{
    Cpus, modes, parse_count, parse_cpus, parse_duration, parse_size, paths, rate_units, whole, words,
};

/// Move data between sources and targets, verify and measure it, and save the result.
#[derive(Debug, Args)]
#[command(after_help = after_help(), override_usage = USAGE)]
pub(in crate::commands) struct RunCommand {
    /// TOML file with options of this command, e.g. size = ["4K", "1M"]. The command line overrides the file
    #[arg(value_name = "PLAN.toml")]
    pub(super) plan: Option<PathBuf>,

    /// Memory to export; see Sources below. With --peer: the client's local buffer  [default with --peer: host memory of the
    /// size needed]
    #[arg(
        long,
        value_name = "SRC",
        num_args = 1..,
        required_unless_present = "peer",
        help_heading = CELLS
    )]
    pub(super) from: Vec<String>,
    /// Device that imports the source and moves the data; see Targets below
    #[arg(long, value_name = "TARGET", num_args = 1.., value_delimiter = ',', required = true, help_heading = CELLS)]
    pub(super) to: Vec<String>,
    /// Required path, see Paths below. A cell is waived if another path is predicted, and fails if another path is observed  [default: the path of the current host
    /// configuration; see Baselines below]
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', value_parser = paths(), hide_possible_values = true,
          help_heading = CELLS)]
    pub(super) path: Vec<PathName>,
    /// Operation, see Operations below  [default: verbs: export, register, unregister, write and read (uc: no read; ud: send
    /// instead of both; with --peer only write and read); iommufd: export, map, unmap, write and read; cuda: export, register,
    /// unregister, copy_in, copy_out, kernel_store and kernel_load]
    #[arg(long, value_name = "OP", num_args = 1.., value_delimiter = ',', value_parser = words::<Op>(Op::ALL.map(Op::as_str)),
          hide_possible_values = true, help_heading = CELLS)]
    pub(super) op: Vec<Op>,
    /// completion, pingpong, bandwidth or load; see Modes below  [default: completion and bandwidth]
    #[arg(long, value_name = "MODE", num_args = 1.., value_delimiter = ',', value_parser = modes(), hide_possible_values = true,
          help_heading = CELLS)]
    pub(super) mode: Vec<Mode>,
    /// Bytes per operation, e.g. 4096, 4K or 1MiB. K, KB and KiB are 1024 bytes, M and G likewise  [default: 4K, 64K, 1M; atomics:
    /// 8; ud: 64, 256, 1K]
    #[arg(long, value_name = "S", num_args = 1.., value_delimiter = ',', value_parser = parse_size, help_heading = CELLS)]
    pub(super) size: Vec<u64>,
    /// Split a BAR into N ranges with gaps between them. An operation covers all of them. Combinations with ranges below 4 KiB
    /// are not measured; the result lists them  [default: the ranges of --from]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', value_parser = whole::<u32>, help_heading = CELLS)]
    pub(super) ranges: Vec<u32>,
    /// Outstanding operations per queue pair in the modes bandwidth and load  [default: 16]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', value_parser = whole::<u32>, help_heading = CELLS)]
    pub(super) depth: Vec<u32>,
    /// Queue pairs per thread, used in turn in the modes bandwidth and load  [default: 1]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', value_parser = whole::<u32>, help_heading = CELLS)]
    pub(super) qps: Vec<u32>,
    /// Offered operations per second in load mode, of all threads together, e.g. 1000, 10k or 1e6
    #[arg(long, value_name = "R", num_args = 1.., value_delimiter = ',', value_parser = parse_count, help_heading = CELLS)]
    pub(super) rate: Vec<u64>,
    /// Number of threads. Each thread has its own queue pairs and its own part of the source; for operations without
    /// transfers, such as register, its own registrations  [default: 1]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', value_parser = whole::<u32>, help_heading = CELLS)]
    pub(super) threads: Vec<u32>,

    /// Registration method; see Mechanisms below
    #[arg(long, value_name = "M", default_value = "auto", value_parser = mechanism::parser(), hide_possible_values = true,
          help_heading = MEASUREMENT)]
    pub(super) mechanism: MechanismChoice,
    /// Repeats of each cell. Repeats of different cells take turns in random order, so that a drift of the host does not affect
    /// only one cell. The main figure of a repeat is its throughput, or else its p50: the table shows the repeat whose main figure
    /// is the median, and the spread of all repeats
    #[arg(long, value_name = "N", default_value = "3", value_parser = whole::<u32>, help_heading = MEASUREMENT)]
    pub(super) repeat: u32,
    /// Seed of the random order of the repeats; the result records it  [default: random]
    #[arg(long, value_name = "N", value_parser = whole::<u32>, help_heading = MEASUREMENT)]
    pub(super) seed: Option<u32>,
    /// Operations per cell, thread and direction, in all repeats together, e.g. 1000, 10k or 1e6  [default: 1000, or 10 per
    /// repeat if all operations are revoke_*, or no limit with --duration]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = MEASUREMENT)]
    pub(super) iterations: Option<u64>,
    /// Time limit per cell, for all repeats together, e.g. 500ms or 2s. The first limit reached ends the cell  [default: one
    /// minute divided by the number of cells, from 300ms to 5s; 60s per repeat if all operations are revoke_*; no limit with
    /// --iterations]
    #[arg(long, value_name = "T", value_parser = parse_duration, help_heading = MEASUREMENT)]
    pub(super) duration: Option<Duration>,
    /// Operations per block of the warm-up. The warm-up ends when the medians of three consecutive blocks differ by at most 10 %,
    /// or at the first of these limits: 20 blocks, the operations of one repeat, a quarter of the time limit of one repeat, 1
    /// second. 0: no warm-up
    #[arg(long, value_name = "N", default_value = "10", value_parser = parse_count, help_heading = MEASUREMENT)]
    pub(super) warmup: u64,
    /// In bandwidth mode, transfer both ways at once. The throughput is the sum of both directions; the table and the result
    /// also have each of them
    #[arg(long, help_heading = MEASUREMENT)]
    pub(super) bidirectional: bool,
    /// Work requests per post  [default: as many as fit in the queue]
    #[arg(long, value_name = "N", value_parser = whole::<u32>, help_heading = MEASUREMENT)]
    pub(super) post_list: Option<u32>,
    /// In bandwidth mode, signal every Nth work request of a queue pair
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<u32>, help_heading = MEASUREMENT)]
    pub(super) completion_moderation: u32,
    /// CPUs to pin the threads to, one each, e.g. 2 or 0-3,8; any: do not pin. In pingpong mode, the threads of the responder
    /// use the next CPUs of the list  [default: CPUs on the NUMA node of the target, one per core, if there are enough]
    #[arg(long, value_name = "LIST|any", value_parser = parse_cpus, help_heading = MEASUREMENT)]
    pub(super) cpu: Option<Cpus>,
    /// Pin the threads to the CPUs of this NUMA node
    #[arg(long, value_name = "N", value_parser = whole::<u32>, conflicts_with = "cpu", help_heading = MEASUREMENT)]
    pub(super) numa_node: Option<u32>,

    /// Unbind functions that are in use. Names, MTU, addresses, routes and soft-RoCE links of a NIC are restored afterwards; its
    /// ethtool, tc and sysctl settings are lost. A NIC with the default route, the login session or a soft RDMA device in use, a
    /// function with enabled virtual functions, and a drive with a mounted file system, are never unbound
    #[arg(long, help_heading = HOST)]
    pub(super) force_in_use: bool,
    /// Blocks of the NVMe drive that may be overwritten, as in --to iommufd:BDF?write=LBA+COUNT; needs exactly one --to. Reads
    /// stay within these blocks, too  [default: none; the drive is only read, at any block]
    #[arg(long, value_name = "LBA+COUNT", help_heading = HOST)]
    pub(super) allow_write: Option<String>,
    /// VFIO interface: auto, group or cdev
    #[arg(long, alias = "door", value_name = "INTERFACE", default_value = "auto", value_parser = words::<VfioInterface>(["auto", "group", "cdev"]),
          hide_possible_values = true, help_heading = HOST)]
    pub(super) vfio: VfioInterface,
    /// Directory for result.json. A result in it needs --force or --append  [default: a new directory results/TIME-HOSTNAME/]
    #[arg(long, value_name = "DIR", help_heading = HOST)]
    pub(super) out: Option<PathBuf>,
    /// Replace the result in --out
    #[arg(long, requires = "out", conflicts_with = "append", help_heading = HOST)]
    pub(super) force: bool,
    /// Add the cells to the result in --out, if it contains one. That result must be of the same version of peerpath and of this host in the same configuration. Cells that it
    /// contains are skipped; those that did not pass or lack repeats are measured again. So the same command with --append
    /// completes an interrupted run
    #[arg(long, requires = "out", help_heading = HOST)]
    pub(super) append: bool,

    /// TOML file with bounds for latency, throughput and path; see Expectations below. Exit status 1 if a bound does not hold
    #[arg(long, value_name = "FILE", help_heading = OUTCOME)]
    pub(super) expect: Option<PathBuf>,
    /// Exit status 1 also if a cell is waived
    #[arg(long, help_heading = OUTCOME)]
    pub(super) fail_on_waived: bool,
    /// Print each finished cell as one line of JSON, as in result.json, instead of the table
    #[arg(long, help_heading = OUTCOME)]
    pub(super) json: bool,
    /// Unit of rates on the terminal: bytes (GB/s) or bits (Gb/s). The result is always in bytes per second
    #[arg(long, value_name = "UNIT", default_value = "bytes", value_parser = rate_units(), hide_possible_values = true,
          help_heading = OUTCOME)]
    pub(super) units: RateUnit,
    /// Check the plan and the devices, print the number of cells and the maximum time of all measurements together, and exit
    #[arg(long, help_heading = OUTCOME)]
    pub(super) dry_run: bool,

    /// Host that runs `peerpath serve`. Data moves between this host and the memory that `serve` exports
    #[arg(long, value_name = "HOST[:PORT]", help_heading = TWO_HOSTS)]
    pub(super) peer: Option<String>,
    /// File with the token that both hosts share  [default: value of PEERPATH_TOKEN]
    #[arg(long, value_name = "FILE", help_heading = TWO_HOSTS)]
    pub(super) token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) queue_pairs: QueuePairArguments,
}

const CELLS: &str = "Cells (a cell is one combination of these options, and one measurement)";
const MEASUREMENT: &str = "Measurement";
const HOST: &str = "Host and output";
const OUTCOME: &str = "Outcome";
const TWO_HOSTS: &str = "Two hosts";

/// The plan comes first, because its options are inserted at its position.
const USAGE: &str = "peerpath run [OPTIONS] --from <SRC>... --to <TARGET>...
       peerpath run <PLAN.toml> [OPTIONS]
       peerpath run [OPTIONS] --peer <HOST[:PORT]> --to <TARGET>";
