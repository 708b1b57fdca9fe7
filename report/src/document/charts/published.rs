//! Published measurements by others, for comparison with measured values.

use super::svg::{Origin, Reference};

/// How a published figure is drawn.
pub(crate) enum Drawing {
    /// Bytes per second, and the direction if it matters.
    Throughput(f64, Option<&'static str>),
    /// Nanoseconds per operation, bytes per operation, direction.
    Latency(f64, u64, &'static str),
    /// Points: number of registered bytes, and nanoseconds.
    Registration(&'static [(f64, f64)]),
    /// Not drawn: the figure is a ratio.
    Relation,
}

/// One published figure.
pub(crate) struct Published {
    pub(crate) what: &'static str,
    pub(crate) value: &'static str,
    pub(crate) publication: &'static str,
    pub(crate) drawing: Drawing,
}

impl Published {
    fn label(&self) -> String {
        format!("published: {}, {}", self.what, self.value)
    }
}

pub(crate) const PUBLISHED: [Published; 8] = [
    Published {
        what: "64 B DMA read, PCIe Gen3 x8",
        value: "about 547 ns",
        publication: "pcie-bench, SIGCOMM 2018",
        drawing: Drawing::Latency(547.0, 64, "out_of_source"),
    },
    Published {
        what: "IOMMU at 200 Gb/s with IOTLB misses",
        value: "up to 20 % less throughput",
        publication: "KTH, PeerJ Computer Science 2023",
        drawing: Drawing::Relation,
    },
    Published {
        what: "VFIO dma-buf and iommufd between 4 GPUs",
        value: "52 GB/s per pair",
        publication: "cloud-hypervisor, pull request 8895",
        drawing: Drawing::Throughput(52e9, None),
    },
    Published {
        what: "virtual machine with ACS and ATS set, ib_write_bw",
        value: "395 Gb/s (4 queue pairs), 368 Gb/s (1)",
        publication: "NVIDIA/nccl, issue 1464",
        drawing: Drawing::Throughput(395e9 / 8.0, None),
    },
    Published {
        what: "virtual machine without ACS set",
        value: "about 56 % of the throughput with ACS set",
        publication: "NVIDIA/nccl, issue 949",
        drawing: Drawing::Relation,
    },
    Published {
        what: "CPU writes to a BAR",
        value: "9.64 GB/s",
        publication: "gdrcopy, README",
        drawing: Drawing::Throughput(9.64e9, Some("into_source")),
    },
    Published {
        what: "CPU reads from a BAR",
        value: "0.53 GB/s",
        publication: "gdrcopy, README",
        drawing: Drawing::Throughput(0.53e9, Some("out_of_source")),
    },
    Published {
        what: "GPU memory pinned for a peer",
        value: "64 KiB: 70 us; 16 MiB: 119 us (mapping: 11 us; 2025 us)",
        publication: "NVIDIA/gdrcopy, issue 129",
        drawing: Drawing::Registration(&[(65_536.0, 70e3), (16_777_216.0, 119e3)]),
    },
];

/// Lines for a throughput chart of one direction.
pub(crate) fn throughput(direction: &str) -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.drawing {
        Drawing::Throughput(rate, only) if only.is_none_or(|only| only == direction) => {
            Some(Reference::horizontal(Origin::Published, rate, published.label()))
        }
        _ => None,
    });
    lines.collect()
}

/// Lines for a latency chart of one size and direction.
pub(crate) fn latency(size_bytes: Option<u64>, direction: &str) -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.drawing {
        Drawing::Latency(time, bytes, only) if only == direction && size_bytes == Some(bytes) => {
            Some(Reference::horizontal(Origin::Published, time, published.label()))
        }
        _ => None,
    });
    lines.collect()
}

/// Lines for a registration chart.
pub(crate) fn registration() -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.drawing {
        Drawing::Registration(points) => {
            Some(Reference { origin: Origin::Published, points: points.to_vec(), label: published.label() })
        }
        _ => None,
    });
    lines.collect()
}
