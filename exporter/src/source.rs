//! Sources of memory, and their names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use peerpath_paths::{BarIndex, BarIndexError, Bdf};

use crate::memory::check_pages;
use crate::size::{format_bytes, parse_bytes};
use crate::{
    BarRange, CudaExporter, Error, Exporter, HeapExporter, HostExporter, OpenOptions, SocketExporter, UdmabufExporter,
    VfioExporter,
};

/// Memory to export, parsed from its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A BAR through VFIO: `0000:03:00.0:2`, or ranges of it: `0000:03:00.0:2@0x0+0x2000,0x4000+0x2000`.
    Vfio {
        /// PCI function that has the BAR.
        bdf: Bdf,
        /// Index of the BAR.
        bar: BarIndex,
        /// Ranges in the order of the buffer; empty for the whole BAR.
        ranges: Vec<BarRange>,
    },
    /// A dma-buf that another process sends over a Unix socket: `socket:PATH`.
    Socket {
        /// Path of the sender's socket.
        path: PathBuf,
    },
    /// Host memory as a dma-buf from `/dev/udmabuf`: `udmabuf:SIZE`.
    Udmabuf {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// Host memory as a dma-buf from `/dev/dma_heap/system`: `heap:SIZE`.
    Heap {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// Memory of a GPU: `cuda:N:SIZE`.
    Cuda {
        /// GPU number in the CUDA driver's enumeration, from 0.
        index: u32,
        /// Size in bytes.
        size_bytes: u64,
    },
    /// Host memory without a dma-buf: `host:SIZE`.
    Host {
        /// Size in bytes.
        size_bytes: u64,
    },
}

impl Source {
    /// Each form of a name with its description, for help texts.
    pub const FORMS: [(&str, &str); 6] = [
        ("BDF:BAR[@OFF+LEN,...]", "BAR of a PCI function through VFIO, or ranges of it"),
        ("socket:PATH", "dma-buf that another process sends over a Unix socket"),
        ("udmabuf:SIZE", "host memory as a dma-buf from /dev/udmabuf"),
        ("heap:SIZE", "host memory as a dma-buf from /dev/dma_heap/system"),
        ("cuda:N:SIZE", "memory of GPU N as a dma-buf"),
        ("host:SIZE", "host memory without a dma-buf, as a baseline"),
    ];

    /// Checks the source without opening it: the function, BAR, ranges, GPU or socket exist, and a dma-buf consists of whole
    /// pages.
    ///
    /// # Errors
    /// The error of the first check that fails.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Vfio { bdf, bar, ranges } => VfioExporter::check(*bdf, *bar, ranges),
            Self::Cuda { index, size_bytes } => CudaExporter::check(*index, *size_bytes),
            Self::Udmabuf { size_bytes } => check_pages("udmabuf", *size_bytes),
            Self::Heap { size_bytes } => check_pages("heap", *size_bytes),
            Self::Socket { path } => SocketExporter::check(path),
            Self::Host { .. } => Ok(()),
        }
    }

    /// Opens the device or allocates the memory, so that the time of a later export includes neither.
    ///
    /// # Errors
    /// Same as the `open` function of the exporter, e.g. [`VfioExporter::open`].
    pub fn open(&self, options: &OpenOptions) -> Result<Box<dyn Exporter>, Error> {
        Ok(match self {
            Self::Vfio { bdf, bar, ranges } => Box::new(VfioExporter::open(*bdf, *bar, ranges, options)?),
            Self::Socket { path } => Box::new(SocketExporter::connect(path)?),
            Self::Udmabuf { size_bytes } => Box::new(UdmabufExporter::open(*size_bytes)?),
            Self::Heap { size_bytes } => Box::new(HeapExporter::open(*size_bytes)?),
            Self::Cuda { index, size_bytes } => Box::new(CudaExporter::open(*index, *size_bytes)?),
            Self::Host { size_bytes } => Box::new(HostExporter::open(*size_bytes, options)?),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Vfio { bdf, bar, ranges } if ranges.is_empty() => format!("{bdf}:{bar}"),
            Self::Vfio { bdf, bar, ranges } => {
                let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                format!("{bdf}:{bar}@{}", ranges.join(","))
            }
            Self::Socket { path } => format!("socket:{}", path.display()),
            Self::Udmabuf { size_bytes } => format!("udmabuf:{}", format_bytes(*size_bytes)),
            Self::Heap { size_bytes } => format!("heap:{}", format_bytes(*size_bytes)),
            Self::Cuda { index, size_bytes } => format!("cuda:{index}:{}", format_bytes(*size_bytes)),
            Self::Host { size_bytes } => format!("host:{}", format_bytes(*size_bytes)),
        };
        f.pad(&text)
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|Problem { why, remedy }| Error::BadSource {
            text: text.chars().take(128).collect(),
            why,
            remedy,
        })
    }
}

/// Reason why a text is not a source, and the remedy.
struct Problem {
    why: String,
    remedy: String,
}

fn problem(why: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { why: why.into(), remedy: remedy.into() }
}

fn parse(text: &str) -> Result<Source, Problem> {
    if let Some((kind, rest)) = text.split_once(':') {
        match kind {
            "socket" if rest.is_empty() => return Err(no_path()),
            "socket" => return Ok(Source::Socket { path: PathBuf::from(rest) }),
            "udmabuf" => return Ok(Source::Udmabuf { size_bytes: parse_size(rest)? }),
            "heap" => return Ok(Source::Heap { size_bytes: parse_size(rest)? }),
            "host" => return Ok(Source::Host { size_bytes: parse_size(rest)? }),
            "cuda" => return parse_gpu(rest),
            _ => {}
        }
    }
    match text {
        "host" | "udmabuf" | "heap" => return Err(problem("the size is missing", format!("write e.g. {text}:16M"))),
        "cuda" => return Err(problem("the GPU and the size are missing", "write e.g. cuda:0:64M")),
        "socket" => return Err(no_path()),
        _ => {}
    }
    parse_bar(text)
}

fn no_path() -> Problem {
    problem("the path is missing", "write e.g. socket:/run/bar.sock")
}

fn parse_gpu(text: &str) -> Result<Source, Problem> {
    let (index, size) = text.split_once(':').ok_or_else(|| problem("the size is missing", "write e.g. cuda:0:64M"))?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    match index.parse() {
        Ok(index) if digits => Ok(Source::Cuda { index, size_bytes: parse_size(size)? }),
        _ => Err(problem("invalid GPU number", "write a decimal number, e.g. cuda:0:64M")),
    }
}

fn parse_size(text: &str) -> Result<u64, Problem> {
    let remedy = "write a size such as 4096, 64K or 1M";
    match parse_bytes(text) {
        Some(0) => Err(problem("the size is zero", remedy)),
        Some(bytes) => Ok(bytes),
        None => Err(problem(format!("invalid size {:?}", text.chars().take(64).collect::<String>()), remedy)),
    }
}

fn parse_bar(text: &str) -> Result<Source, Problem> {
    let (place, ranges) = match text.split_once('@') {
        Some((place, ranges)) => (place, parse_ranges(ranges)?),
        None => (text, Vec::new()),
    };
    if place.parse::<Bdf>().is_ok() {
        return Err(problem("the BAR is missing", format!("write e.g. {place}:0 for BAR 0")));
    }
    let (bdf, bar) = place.rsplit_once(':').filter(|(bdf, _)| resembles_address(bdf)).ok_or_else(|| {
        let forms = Source::FORMS.map(|(form, _)| form).join(", ");
        problem("it has none of the forms of a source", format!("write one of {forms}"))
    })?;
    let bdf = bdf
        .parse::<Bdf>()
        .map_err(|error| problem(error.to_string(), "write a BAR as BDF:BAR, e.g. 0000:03:00.0:2"))?;
    let bar = bar
        .parse()
        .map_err(|error: BarIndexError| problem(error.to_string(), format!("write e.g. {bdf}:0 for BAR 0")))?;
    Ok(Source::Vfio { bdf, bar, ranges })
}

/// Whether a text consists of hexadecimal digits and the separators of a PCI address.
fn resembles_address(text: &str) -> bool {
    text.contains(':') && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
}

fn parse_ranges(text: &str) -> Result<Vec<BarRange>, Problem> {
    let remedy = "write each range as OFFSET+LENGTH, e.g. 0000:03:00.0:2@0x0+0x2000,0x4000+0x2000";
    text.split(',').map(|range| range.parse().map_err(|error: Error| problem(error.to_string(), remedy))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bar(index: u8) -> BarIndex {
        BarIndex::new(index).unwrap()
    }

    fn bdf() -> Bdf {
        Bdf::new(0, 3, 0, 0).unwrap()
    }

    #[test]
    fn parses_every_form() {
        let cases = [
            ("0000:03:00.0:2", Source::Vfio { bdf: bdf(), bar: bar(2), ranges: vec![] }),
            ("03:00.0:2", Source::Vfio { bdf: bdf(), bar: bar(2), ranges: vec![] }),
            (
                "0000:03:00.0:2@0x0+0x2000,0x4000+8K",
                Source::Vfio {
                    bdf: bdf(),
                    bar: bar(2),
                    ranges: vec![
                        BarRange { offset_bytes: 0, length_bytes: 0x2000 },
                        BarRange { offset_bytes: 0x4000, length_bytes: 0x2000 },
                    ],
                },
            ),
            ("socket:/run/x:y@z", Source::Socket { path: "/run/x:y@z".into() }),
            ("udmabuf:64K", Source::Udmabuf { size_bytes: 65536 }),
            ("heap:1M", Source::Heap { size_bytes: 1 << 20 }),
            ("cuda:1:64M", Source::Cuda { index: 1, size_bytes: 64 << 20 }),
            ("host:0x1000", Source::Host { size_bytes: 4096 }),
        ];
        for (text, source) in cases {
            assert_eq!(text.parse::<Source>().unwrap(), source, "{text}");
        }
    }

    #[test]
    fn reports_why_a_name_is_invalid() {
        let cases = [
            ("0000:03:00.0", "the BAR is missing"),
            ("0000:03:00.0:6", "0 to 5"),
            ("0000:03:00.0:02", "0 to 5"),
            ("0000:03:00.9:2", "0 to 7"),
            ("0000:03:00.0:2@", "not a range"),
            ("0000:03:00.0:2@0x0+0x1000,", "not a range"),
            ("udmabuf:0", "zero"),
            ("host:", "invalid size"),
            ("socket:", "path is missing"),
            ("cuda:1M", "size is missing"),
            ("cuda:x:1M", "invalid GPU number"),
            ("cuda:+1:1M", "invalid GPU number"),
            ("cuda:0:0", "zero"),
            ("", "none of the forms"),
            ("host", "size is missing"),
            ("socket", "path is missing"),
        ];
        for (text, why) in cases {
            let message = text.parse::<Source>().unwrap_err().to_string();
            assert!(message.contains(why), "{text:?}: {message}");
        }
    }

    fn sources() -> impl Strategy<Value = Source> {
        let range = (any::<u64>(), any::<u64>())
            .prop_map(|(offset_bytes, length_bytes)| BarRange { offset_bytes, length_bytes });
        let vfio = (any::<u32>(), any::<u8>(), 0u8..32, 0u8..8, 0u8..6, proptest::collection::vec(range, 0..4))
            .prop_map(|(segment, bus, device, function, index, ranges)| Source::Vfio {
                bdf: Bdf::new(segment, bus, device, function).unwrap(),
                bar: bar(index),
                ranges,
            });
        prop_oneof![
            vfio,
            "[a-z/.:@+,]{1,40}".prop_map(|path| Source::Socket { path: path.into() }),
            (1..u64::MAX).prop_map(|size_bytes| Source::Udmabuf { size_bytes }),
            (1..u64::MAX).prop_map(|size_bytes| Source::Heap { size_bytes }),
            (any::<u32>(), 1..u64::MAX).prop_map(|(index, size_bytes)| Source::Cuda { index, size_bytes }),
            (1..u64::MAX).prop_map(|size_bytes| Source::Host { size_bytes }),
        ]
    }

    proptest! {
        #[test]
        fn parses_what_it_prints(source in sources()) {
            prop_assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<Source>();
        }

        #[test]
        fn parsing_almost_valid_names_never_panics(text in "[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}.[0-9]:[0-9]@?[0-9x+,KMG]{0,20}") {
            let _ = text.parse::<Source>();
        }
    }
}
