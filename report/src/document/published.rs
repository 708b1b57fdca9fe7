//! Figures that others have published, to show beside ours. None of them was measured here.

use super::chart::Reference;

/// What a published figure can be drawn beside.
pub(crate) enum Figure {
    /// Bytes a second, in which direction where that matters.
    Throughput(f64, Option<&'static str>),
    /// Nanoseconds of one operation of so many bytes, in which direction.
    Latency(f64, u64, &'static str),
    /// Nanoseconds of a registration by bytes.
    Registration(&'static [(f64, f64)]),
    /// A relation, which no axis has.
    Relation,
}

/// One published figure.
pub(crate) struct Published {
    pub(crate) what: &'static str,
    pub(crate) told: &'static str,
    pub(crate) whence: &'static str,
    pub(crate) figure: Figure,
}

/// As the people who measured them put it.
pub(crate) const PUBLISHED: [Published; 8] = [
    Published {
        what: "64 B DMA read, PCIe Gen3 x8",
        told: "about 547 ns",
        whence: "pcie-bench, SIGCOMM 2018",
        figure: Figure::Latency(547.0, 64, "out_of_source"),
    },
    Published {
        what: "IOMMU at 200 Gb/s, IOTLB misses",
        told: "up to 20 % less throughput",
        whence: "KTH, PeerJ Computer Science 2023",
        figure: Figure::Relation,
    },
    Published {
        what: "VFIO dma-buf and iommufd between 4 GPUs",
        told: "52 GB/s each pair",
        whence: "cloud-hypervisor, pull request 8895",
        figure: Figure::Throughput(52e9, None),
    },
    Published {
        what: "virtual machine with ACS and ATS set, ib_write_bw",
        told: "395 Gb/s (4 queue pairs), 368 Gb/s (1)",
        whence: "NVIDIA/nccl, issue 1464",
        figure: Figure::Throughput(395e9 / 8.0, None),
    },
    Published {
        what: "virtual machine, ACS setting missing",
        told: "about 56 % of that",
        whence: "NVIDIA/nccl, issue 949",
        figure: Figure::Relation,
    },
    Published {
        what: "CPU writes to a BAR",
        told: "9.64 GB/s",
        whence: "gdrcopy, README",
        figure: Figure::Throughput(9.64e9, Some("into_source")),
    },
    Published {
        what: "CPU reads from a BAR",
        told: "0.53 GB/s",
        whence: "gdrcopy, README",
        figure: Figure::Throughput(0.53e9, Some("out_of_source")),
    },
    Published {
        what: "GPU memory pinned for a peer",
        told: "64 KiB: 70 us; 16 MiB: 119 us (and mapped: 11 us; 2025 us)",
        whence: "NVIDIA/gdrcopy, issue 129",
        figure: Figure::Registration(&[(65_536.0, 70e3), (16_777_216.0, 119e3)]),
    },
];

/// Lines for a picture of throughput in one direction.
pub(crate) fn throughput(direction: &str) -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.figure {
        Figure::Throughput(rate, way) if way.is_none_or(|way| way == direction) => {
            Some(Reference { points: vec![(f64::NEG_INFINITY, rate), (f64::INFINITY, rate)], label: published.what })
        }
        _ => None,
    });
    lines.collect()
}

/// Lines for a picture of latency of one size in one direction.
pub(crate) fn latency(size_bytes: Option<u64>, direction: &str) -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.figure {
        Figure::Latency(time, bytes, way) if way == direction && size_bytes == Some(bytes) => {
            Some(Reference { points: vec![(f64::NEG_INFINITY, time), (f64::INFINITY, time)], label: published.what })
        }
        _ => None,
    });
    lines.collect()
}

/// Lines for a picture of what registering costs.
pub(crate) fn registration() -> Vec<Reference> {
    let lines = PUBLISHED.iter().filter_map(|published| match published.figure {
        Figure::Registration(points) => Some(Reference { points: points.to_vec(), label: published.what }),
        _ => None,
    });
    lines.collect()
}
