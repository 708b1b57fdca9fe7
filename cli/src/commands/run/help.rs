//! The text after the options in `run --help`: examples, and what the values of options mean.

use peerpath_exporter::Source;
use peerpath_importers::{IMPORTERS, Importer};

use crate::text_layout::hanging;

/// Fits a terminal of 80 columns, so clap does not wrap it again.
const WIDTH: usize = 78;

const EXAMPLES: &str = "\
Examples:
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0
      registration, RDMA write and RDMA read of BAR 2 of a function
  peerpath run --from 0000:03:00.0:2,host:16M --to mlx5_0 \\
               --op write --size 4K,1M
      write to the BAR and to host memory, for comparison
  peerpath run --from 0000:03:00.0:2@0x0+0x10000,0x40000+0x10000 \\
               --to verbs:mlx5_0 --op register
      registration of two ranges in one dma-buf
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --op register \\
               --size 64M --ranges 1,8,512
      registration by number of ranges
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 \\
               --op revoke_reset,revoke_memory_off --size 4K
      revocation of the BAR during transfers
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --op write,read \\
               --path translated,staged
      peer-to-peer access and a copy through host memory, for comparison
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 \\
               --path bypass,translated --force-in-use
      both paths through the root complex
  peerpath run --from host:64M --to verbs:mlx5_0 --op write --mode pingpong \\
               --size 8 --inline 64
      the measurement of ib_write_lat
  peerpath run --from host:1G --to verbs:mlx5_0 --op write --mode bandwidth \\
               --size 64K --depth 128 --qps 4 --completion-moderation 100 \\
               --duration 10s
      the measurement of ib_write_bw
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0 --op write \\
               --size 4K --mode load --rate 10k,100k,1e6
      latency against load
  peerpath run --from cuda:0:64M --to verbs:mlx5_0
      memory of a GPU: GPUDirect RDMA with dma-buf
  peerpath run --from 0000:03:00.0:2,host:256M --to cuda:0 \\
               --size 64M --iterations 100
      copies between a GPU and a BAR, and between the GPU and host memory
  peerpath run nightly.toml --expect limits.toml --fail-on-waived
      a check for CI: a plan from a file, and bounds for its figures
  peerpath run nightly.toml --size 64K
      a plan from a file, with another size
  peerpath run --peer 192.0.2.7 --to verbs:mlx5_0 --token-file token
      memory that `peerpath serve` exports on another host
";

const PATHS: [(&str, &str); 6] = [
    ("bypass", "through the root complex without translation"),
    ("translated", "through the root complex, translated by the IOMMU"),
    ("bus-address", "peer-to-peer below a common switch"),
    ("host-memory", "source in host memory"),
    ("staged", "copy through host memory by the CPU"),
    ("refused", "no path: the cell passes if the kernel refuses the mapping"),
];

const MODES: [(&str, &str); 4] = [
    ("completion", "one operation at a time; latency from post to completion"),
    ("pingpong", "one message back and forth between two queue pairs; latency is half of the round trip"),
    ("bandwidth", "--depth operations outstanding; throughput"),
    (
        "load",
        "operations at each --rate, at most --depth outstanding; latency from the scheduled time, also of late operations",
    ),
];

const BASELINES: &str = "
Baselines:
  If every source is a BAR and no option selects cells (--op, --mode, --size,
  --path and so on), the same transfers are also measured with host memory and
  as staged copies.
";

const EXPECTATIONS: &str = "\
Expectations (--expect):
  One table per expectation. Keys that select cells: op, mode, size, source
  (the kind: vfio for a BAR, host, udmabuf, heap, cuda), target (a device
  name). Bounds: min_bytes_per_s, max_bytes_per_s, max_p50_ns, max_p99_ns,
  min_percent_of_host_memory, min_percent_of_ceiling (of the rate that the
  links of the path allow), path (a name or a list). An expectation does not
  hold if no cell matches it, or if a matching cell did not pass or lacks the
  figure.
    [[expect]]
    op = \"write\"
    mode = \"bandwidth\"
    size = \"1M\"
    min_bytes_per_s = 20e9
    min_percent_of_host_memory = 90
    path = \"bus-address\"

";

const EXIT: &str = "\
A waived cell could not run on this host; the result has the reason. A source
or target that does not exist is an error: nothing runs. The result is saved
after every cell.

Exit status:
  0    all cells passed, or some passed and the others were waived
  1    a cell failed, or an expectation does not hold
  2    invalid arguments, or a device that does not exist
  3    no cell could run on this host
  4    I/O error
  129, 130, 143  interrupted by a signal
";

pub(super) fn after_help() -> String {
    let mut text = format!("{EXAMPLES}\nSources (--from):\n{}", entries(&Source::FORMS));
    text += "  Without a BAR (0000:03:00.0), the only exportable BAR of the function is used.\n";
    text += "\nTargets (--to):\n";
    text += &entries(
        &IMPORTERS.iter().map(|importer| (importer.usage().form, importer.usage().summary)).collect::<Vec<_>>(),
    );
    text += "  The kind is optional if this host has one device with the name: --to mlx5_0,\n  --to 0000:05:00.0.\n";
    text += BASELINES;
    text += &format!("\nPaths (--path):\n{}", table(&PATHS));
    text += "  The host is reconfigured for bypass, translated and bus-address if necessary,\n";
    text +=
        "  and restored afterwards. A path that does not apply to the kind of a source\n  is not measured for it.\n";
    for importer in IMPORTERS {
        let ops: Vec<_> = importer.capabilities().ops.iter().map(|spec| (spec.op.as_str(), spec.summary)).collect();
        text += &format!("\nOperations (--op) of {} targets:\n{}", importer.kind(), table(&ops));
    }
    text += &format!("\nModes (--mode):\n{}", table(&MODES));
    text += &format!("\nMechanisms (--mechanism):\n{}\n{EXPECTATIONS}{EXIT}", mechanisms());
    text
}

fn mechanisms() -> String {
    let mut rows = vec![
        (
            "auto",
            "one dma-buf and one registration of all ranges; cuda targets: the first mechanism that works".to_owned(),
        ),
        ("mr-per-range", "one dma-buf and one registration per range; an operation stays within one range".to_owned()),
    ];
    for importer in IMPORTERS {
        let of = |importer: &dyn Importer, summary| format!("{} targets: {summary}", importer.kind());
        rows.extend(importer.capabilities().mechanisms.iter().map(|spec| (spec.name, of(*importer, spec.summary))));
    }
    table(&rows.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>())
}

/// Names and texts in two columns.
fn table(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, text)| hanging(&format!("  {name}"), width + 4, text, WIDTH)).collect()
}

/// Long names, each with its text on the following lines.
fn entries(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|(name, text)| format!("  {name}\n{}", hanging("", 6, text, WIDTH))).collect()
}
