//! `docs/ceilings.md`: the model of ceilings next to published figures.

#[path = "support/document.rs"]
mod document;

use std::fmt::Write as _;

use peerpath_paths::Link;
use peerpath_paths::ceiling::{Assumption, LinkSettings, NoCeiling, Op, Port, Traffic, Wire};

/// A published figure, and the model with the same settings.
struct Published {
    source: usize,
    what: &'static str,
    settings: String,
    gb_per_s: f64,
    model_gb_per_s: f64,
}

impl Published {
    /// Difference of the published figure from the model, in percent.
    fn difference(&self) -> f64 {
        100.0 * (self.gb_per_s / self.model_gb_per_s - 1.0)
    }

    fn row(&self) -> String {
        format!(
            "| {} | {} | {:.2} | {:.2} | {:+.1} % | [{}] |\n",
            self.what,
            self.settings,
            self.gb_per_s,
            self.model_gb_per_s,
            self.difference(),
            self.source + 1
        )
    }
}

const WIKIPEDIA: usize = 0;
const LOCKWOOD: usize = 1;
const INTEL_AN_855: usize = 2;
const INTEL_AN_690: usize = 3;
const INTEL_READS: usize = 4;
const PCIE_MODEL: usize = 5;
const PCIE_BENCH: usize = 6;
const ROCE: usize = 7;
const NDR: usize = 8;

const SOURCES: [&str; 9] = [
    "Bandwidths of PCI Express 1.0 to 5.0 as Wikipedia lists them, quoted by <https://hpc-notes.pages.dev/reference/pcie>",
    "G. Lockwood, PCIe Gen6, <https://glennklockwood.com/garden/PCIe-Gen6>: 236 of 256 bytes of a flit, 118 GB/s",
    "Intel AN 855, Throughput for Posted Writes: 256 / (256 + 20) = 92 %",
    "Intel AN 690, Throughput for Posted Writes and Peak Throughput: 7.2 GB/s calculated, peaks of \
     7.1 GB/s and 7.0 GB/s recorded",
    "Intel AN 855, Throughput for Reads: 512 / (512 + 40) = 92 %",
    "pcie-bench/pcie-model, `model/pcie.py` and `model/mem_bw.py` at 40703cfe, computed for transfers of 2048 bytes. \
     It is the model of Neugebauer et al., Understanding PCIe performance for end host networking, SIGCOMM 2018",
    "pcie-bench/data at b2abf2f7, `bw_dma_sz_sweep.txt` and `sys-lspci.txt` of an NFP-6000 in three hosts without \
     IOMMU: the highest rate of each file (address width assumed). The data of the same paper",
    "Observed bandwidths (in Gb s-1) from RNIC to CPU memory using RDMA, J. Synchrotron Rad. 27 (2020) 1297, table 2 \
     (doi 10.1107/S1600577520008140)",
    "cloud-hypervisor issue 8141: `ib_write_bw`, 4 queue pairs, 1 MiB, between two hosts with NDR InfiniBand (MTU assumed)",
];

fn link(generation: u8, lanes: u8) -> Link {
    Link { generation, lanes }
}

/// A link with one MPS. Only requests with 64-bit addresses have 4-DW headers.
fn settings(link: Link, payload: u16, read_request: u16, wide_addresses: bool) -> LinkSettings {
    LinkSettings {
        link,
        flit_mode: link.generation >= 6,
        write_payload_bytes: payload,
        completion_payload_bytes: payload,
        read_request_bytes: read_request,
        wide_addresses,
    }
}

fn of_link(source: usize, what: &'static str, settings: LinkSettings, op: Op, gb_per_s: f64) -> Published {
    let LinkSettings { link, write_payload_bytes: payload, wide_addresses, .. } = settings;
    let header = if op == Op::Write && wide_addresses { "4 DW" } else { "3 DW" };
    Published {
        source,
        what,
        settings: format!("{link}, MPS {payload}, {header}"),
        gb_per_s,
        model_gb_per_s: settings.bytes_per_s(op, Traffic::OneWay).unwrap() / 1e9,
    }
}

fn of_port(source: usize, what: &'static str, wire: Wire, gbit: u64, mtu: u16, gbit_per_s: f64) -> Published {
    let port = Port {
        device: String::new(),
        port: 1,
        wire,
        bits_per_s: gbit * 1_000_000_000,
        path_mtu_bytes: mtu,
        mtu_assumed: false,
    };
    Published {
        source,
        what,
        settings: format!("{gbit} Gb/s, MTU {mtu}"),
        gb_per_s: gbit_per_s / 8.0,
        model_gb_per_s: port.bytes_per_s() / 1e9,
    }
}

/// Rates that others calculated.
fn calculated() -> Vec<Published> {
    let raw = |generation, gb_per_s| {
        let link = link(generation, 16);
        Published {
            source: WIKIPEDIA,
            what: "raw rate",
            settings: link.to_string(),
            gb_per_s,
            model_gb_per_s: link.raw_bytes_per_s().unwrap() / 1e9,
        }
    };
    let gen3_x8 = link(3, 8);
    let raw_gen3_x8 = gen3_x8.raw_bytes_per_s().unwrap() / 1e9;
    let mut figures: Vec<_> =
        [(1, 4.0), (2, 8.0), (3, 15.7), (4, 31.5), (5, 63.0)].map(|(generation, rate)| raw(generation, rate)).into();
    figures.extend([
        of_link(LOCKWOOD, "TLPs in flits", settings(link(6, 16), 4096, 4096, false), Op::Write, 118.0),
        of_link(
            INTEL_AN_855,
            "write, 92 % of the raw rate",
            settings(gen3_x8, 256, 512, false),
            Op::Write,
            0.92 * raw_gen3_x8,
        ),
        of_link(INTEL_AN_690, "write", settings(gen3_x8, 256, 512, false), Op::Write, 7.2),
        of_link(
            INTEL_READS,
            "read, 92 % of the raw rate",
            settings(gen3_x8, 256, 512, false),
            Op::Read,
            0.92 * raw_gen3_x8,
        ),
    ]);
    figures
}

/// Rates that others measured.
fn measured() -> Vec<Published> {
    let gen3_x8 = |payload, request, wide| settings(link(3, 8), payload, request, wide);
    vec![
        of_link(INTEL_AN_690, "write, peak on the link", gen3_x8(256, 512, false), Op::Write, 7.1),
        of_link(INTEL_AN_690, "read, peak on the link", gen3_x8(256, 512, false), Op::Read, 7.0),
        of_link(PCIE_BENCH, "write, Xeon E5-2637 v3", gen3_x8(256, 512, true), Op::Write, 54.444 / 8.0),
        of_link(PCIE_BENCH, "read, MRRS 512, Xeon E5-2637 v3", gen3_x8(256, 512, true), Op::Read, 55.439 / 8.0),
        of_link(PCIE_BENCH, "write, Xeon E5-2630 v4", gen3_x8(256, 4096, true), Op::Write, 53.013 / 8.0),
        of_link(PCIE_BENCH, "read, MRRS 4096, Xeon E5-2630 v4", gen3_x8(256, 4096, true), Op::Read, 55.591 / 8.0),
        of_link(PCIE_BENCH, "write, Xeon E3-1226 v3", gen3_x8(128, 512, true), Op::Write, 40.158 / 8.0),
        of_link(PCIE_BENCH, "read, MRRS 512, Xeon E3-1226 v3", gen3_x8(128, 512, true), Op::Read, 52.179 / 8.0),
        of_port(ROCE, "RoCE v2 write", Wire::Roce, 100, 4096, 97.5),
        of_port(ROCE, "RoCE v2 write", Wire::Roce, 100, 2048, 95.2),
        of_port(NDR, "InfiniBand write", Wire::InfiniBand, 400, 4096, 395.08),
    ]
}

/// The model of pcie-bench, whose DLLPs take a larger share.
fn pcie_model() -> Vec<Published> {
    let gen3_x8 = settings(link(3, 8), 256, 512, true);
    vec![
        of_link(PCIE_MODEL, "write, pcie-bench's model", gen3_x8, Op::Write, 52.923 / 8.0),
        of_link(PCIE_MODEL, "read, pcie-bench's model", gen3_x8, Op::Read, 53.690 / 8.0),
    ]
}

#[test]
fn the_model_agrees_with_calculations_within_5_percent() {
    for figure in calculated() {
        assert!(figure.difference().abs() <= 5.0, "{}", figure.row());
    }
}

#[test]
fn no_measurement_exceeds_the_model() {
    for figure in measured() {
        assert!(figure.difference() <= 0.0, "{}", figure.row());
    }
}

#[test]
fn the_best_measurement_of_each_source_is_within_5_percent() {
    for source in [INTEL_AN_690, PCIE_BENCH, ROCE, NDR] {
        let figures = measured().into_iter().filter(|figure| figure.source == source);
        let best = figures.map(|figure| figure.difference()).fold(f64::NEG_INFINITY, f64::max);
        assert!(best >= -5.0, "{}: {best}", SOURCES[source]);
    }
}

#[test]
fn the_packets_are_those_of_pcie_bench() {
    // pcie-bench's rate of TLPs on this link is 57.885 Gb/s, of which packets leave these shares for the payload.
    let gen3_x8 = settings(link(3, 8), 256, 512, true);
    let tlps = gen3_x8.link.raw_bytes_per_s().unwrap() * (1.0 - 1.0 / 376.0);
    for (op, payload) in [(Op::Write, 52.923), (Op::Read, 53.690)] {
        let share = gen3_x8.bytes_per_s(op, Traffic::OneWay).unwrap() / tlps;
        assert!((share - payload / 57.885).abs() < 1e-4, "{share} {}", payload / 57.885);
    }
    // Measurements of the authors exceed their model, so its rate of DLLPs does not give an upper limit.
    let exceeded =
        |model: usize, measured: usize| self::pcie_model()[model].gb_per_s < self::measured()[measured].gb_per_s;
    assert!(exceeded(0, 2) && exceeded(1, 3));
}

#[test]
fn the_document_agrees_with_the_model() {
    document::agrees("ceilings.md", &text());
}

fn text() -> String {
    let rows = |figures: Vec<Published>| figures.iter().map(Published::row).collect::<String>();
    let mut text = INTRODUCTION.to_owned();
    for assumption in Assumption::ALL {
        let _ = writeln!(text, "| `{assumption}` | {} |", assumption.about());
    }
    text += NONE;
    for reason in NoCeiling::ALL {
        let _ = writeln!(text, "| `{}` | {} |", reason.as_str(), reason.about());
    }
    text += FIGURES;
    let _ = write!(text, "\n### Calculated\n\n{COLUMNS}{}", rows(calculated()));
    let _ = write!(text, "\n### Measured\n\n{COLUMNS}{}", rows(measured()));
    let _ = write!(text, "{PCIE_BENCH_TEXT}{COLUMNS}{}", rows(pcie_model()));
    text += "\n### Sources\n\n";
    for (number, source) in SOURCES.iter().enumerate() {
        let _ = writeln!(text, "{}. {source}", number + 1);
    }
    text
}

const COLUMNS: &str = "\
| figure | settings | published GB/s | model GB/s | difference | source |
|---|---|---|---|---|---|
";

const INTRODUCTION: &str = "\
# Ceilings

A ceiling is the highest payload rate that the links of a path allow. `peerpath paths --from BDF --to BDF` prints it for writes
into the exported memory and for reads from it, and names the slowest hop. It answers whether a measured rate is normal: a rate
near the ceiling is limited by that hop, and a rate far below it has another cause. A ceiling is an upper limit, not a forecast.

A test generates this document from `paths/src/ceiling/`. Do not edit it by hand: `PEERPATH_BLESS=1 cargo test -p
peerpath-paths --test ceilings_doc` rewrites it.

## Model

A path consists of hops: every PCIe link between exporter and importer, and between two hosts also the port of the RDMA device.
The hop with the lowest rate is the ceiling. A path through the root complex can pass one link twice, once in each direction.

For a link:

- **Raw rate**: GT/s x lanes x encoding. The encoding is 8b/10b for 2.5 and 5 GT/s, 128b/130b from 8 GT/s, and 1b/1b from 64 GT/s.
  Speed and width are those of Link Status, so a degraded link lowers the ceiling.
- **SKP ordered sets**: 4 of 1538 symbols with 8b/10b, 1 of 376 blocks with 128b/130b. The model does not count them in Flit Mode.
- **Flit Mode** (Link Status 2; always from 64 GT/s): TLPs have 236 of 256 bytes. The rest is data link payload, CRC and FEC.
- **TLP**: a header of 3 DW (12 bytes), or of 4 DW (16 bytes) for a request with a 64-bit address, and 8 bytes around it. With
  8b/10b these are LCRC (4), sequence number (2), and start and end symbols (2). With 128b/130b they are LCRC (4) and an STP token
  (4) that contains the sequence number. In Flit Mode there are none.
- **Writes**: posted writes with the MPS of the importer as payload. On the exporter's side of a root complex, also at most the
  MPS of the root port.
- **Reads**: completions with a 3-DW header. Their payload is the MPS of the exporter, or the MRRS if that is less; on the
  importer's side of a root complex also at most the MPS of the root port. The read requests, one per MRRS, travel in the other
  direction and limit reads only if they need more bytes than the completions.
- **Outstanding reads**: tags x MRRS / round trip. The number of tags is 32, 256 with extended tags, or 768 with 10-bit tags.
  The round trip is measured, so `peerpath paths` does not apply this limit.
- **DLLPs**: one way, the direction of the data carries none: ACKs and credits for the data travel in the other direction. Both
  ways, each direction carries one ACK and one UpdateFC of 8 bytes per Ack Latency Limit (PCIe Base Specification 3.0, 3.5.3.1),
  and the read requests of the other direction.

For a virtual function, the registers of its physical function count. For a port, the rate is that of
`/sys/class/infiniband/DEVICE/ports/PORT/rate`, without 8b/10b (InfiniBand up to QDR) or 64b/66b encoding (FDR), and the payload
is one path MTU per packet. The ceiling of a pair does not contain the port, because data on one host does not cross the wire.

## JSON

With `--from` and `--to`, `peerpath paths --json` has the key `ceiling`:

| key | meaning |
|---|---|
| `write`, `read` | ceiling of writes into the exported memory, and of reads from it |
| `.bytes_per_s` | payload bytes per second; null if the ceiling is unknown or if there is none |
| `.limited_by` | the slowest hop |
| `.assumptions` | what the ceiling assumes, see below |
| `.unknown` | facts that are not readable, and without which the ceiling is unknown |
| `.no_ceiling` | why the path has no ceiling, see below; null if it has one |
| `hops` | every link, in the order from exporter to importer: `kind` (`link`), `upper`, `lower`, `generation`, `lanes`, `flit_mode`, `write_payload_bytes`, `completion_payload_bytes`, `read_request_bytes`, `wide_addresses` (64-bit addresses), `write_bytes_per_s`, `read_bytes_per_s` |
| `port` | the active port of the importer: `kind` (`port`), `device`, `port`, `wire` (`roce` or `infiniband`), `bits_per_s`, `path_mtu_bytes`, `write_bytes_per_s`, `read_bytes_per_s`; null without one |

## Assumptions

If one of them is wrong, the actual limit is lower than the ceiling. The exceptions are `current-speed`, and `rare-dllps` if a receiver sends fewer credit updates.

| word | assumption |
|---|---|
";

const NONE: &str = "
## Paths without a ceiling

| word | reason |
|---|---|
";

const FIGURES: &str = "
## Published figures

The difference is that of the published figure from the model. Tests require that calculated figures differ by at most 5 %,
that no measured figure exceeds the model, and that the best measured figure of each source is within 5 %. Writes of the
Xeon E3-1226 v3 show that a host can be far below its ceiling. Figures in Gb/s are divided by 8.
";

const PCIE_BENCH_TEXT: &str = "
### The model of pcie-bench

pcie-bench uses the same packets: with its rate of TLPs, 57.88 Gb/s on a link of 8 GT/s x8, both models agree within 0.01 %. Its
rate of TLPs is 8 % below ours, for two reasons. It subtracts ACKs and credits from the direction of the data also one way, and it
compares the 8 bytes of a DLLP with an interval in symbol times as if a symbol time were one byte, although every lane transfers a
byte per symbol time. Measurements of its authors, above, exceed its rates, so these are no upper limit.

";
