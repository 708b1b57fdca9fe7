//! Rates of one PCIe link. docs/ceilings.md lists the sources of all constants.

use serde::Serialize;

use super::{Op, Traffic};
use crate::Link;

/// First generation with 128b/130b encoding (8 GT/s).
const FIRST_128B_130B: u8 = 3;
/// First generation with 1b/1b encoding, which requires Flit Mode (64 GT/s).
const FIRST_FLIT: u8 = 6;

/// Bytes of TLPs in a flit, and of the flit. The rest is data link payload, CRC and FEC (PCIe 6.0, 4.2.3).
const FLIT_TLP_BYTES: f64 = 236.0;
const FLIT_BYTES: f64 = 256.0;

/// Bytes around a TLP outside of Flit Mode: LCRC (4), and start, sequence number and end (4). From 8 GT/s the STP token of 4
/// bytes contains the sequence number; an end symbol does not exist.
const ENVELOPE_BYTES: f64 = 8.0;
/// A TLP header with a 64-bit address, and one with a 32-bit address or of a completion, in bytes.
const HEADER_4DW_BYTES: f64 = 16.0;
const HEADER_3DW_BYTES: f64 = 12.0;
/// A DLLP with framing.
const DLLP_BYTES: f64 = 8.0;

impl Link {
    /// Transfer rate of one lane in GT/s; `None` for a generation after PCIe 7.0.
    pub fn gt_per_s(self) -> Option<f64> {
        Some(match self.generation {
            1 => 2.5,
            2 => 5.0,
            3 => 8.0,
            4 => 16.0,
            5 => 32.0,
            6 => 64.0,
            7 => 128.0,
            _ => return None,
        })
    }

    /// Raw rate of one direction in bytes per second: lanes x GT/s after encoding (8b/10b, 128b/130b from 8 GT/s, 1b/1b from
    /// 64 GT/s), with all packet overhead. `None` for an unknown generation.
    pub fn raw_bytes_per_s(self) -> Option<f64> {
        let encoding = match self.generation {
            ..FIRST_128B_130B => 8.0 / 10.0,
            FIRST_128B_130B..FIRST_FLIT => 128.0 / 130.0,
            _ => 1.0,
        };
        Some(self.gt_per_s()? * 1e9 / 8.0 * f64::from(self.lanes) * encoding)
    }
}

impl std::fmt::Display for Link {
    /// `8 GT/s x16`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.gt_per_s() {
            Some(speed) => write!(f, "{speed} GT/s x{}", self.lanes),
            None => write!(f, "an unknown speed x{}", self.lanes),
        }
    }
}

/// A link, and the sizes of the packets that cross it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct LinkSettings {
    /// Current speed and width.
    #[serde(flatten)]
    pub link: Link,
    /// Whether the link is in Flit Mode. From 64 GT/s it always is.
    pub flit_mode: bool,
    /// Maximum payload of a posted write on this link, in bytes.
    pub write_payload_bytes: u16,
    /// Maximum payload of a completion on this link, in bytes.
    pub completion_payload_bytes: u16,
    /// Maximum size of a read request (MRRS), in bytes.
    pub read_request_bytes: u16,
    /// Whether requests carry 64-bit addresses, which need a header of 4 DW instead of 3.
    pub wide_addresses: bool,
}

impl LinkSettings {
    /// Upper limit of the payload rate in bytes per second; `None` for an unknown generation.
    pub fn bytes_per_s(&self, op: Op, traffic: Traffic) -> Option<f64> {
        let payload = f64::from(match op {
            Op::Write => self.write_payload_bytes,
            Op::Read => self.completion_payload_bytes.min(self.read_request_bytes),
        });
        let tlp_rate = self.tlp_bytes_per_s(payload, traffic)?;
        let request_header = if self.wide_addresses { HEADER_4DW_BYTES } else { HEADER_3DW_BYTES };
        match op {
            Op::Write => Some(tlp_rate * payload / (payload + self.packet_bytes(request_header))),
            Op::Read => {
                let completion = payload + self.packet_bytes(HEADER_3DW_BYTES);
                // Share of a read request per completion.
                let request = self.packet_bytes(request_header) * payload / f64::from(self.read_request_bytes);
                Some(match traffic {
                    // Requests and completions use different directions of the link.
                    Traffic::OneWay => tlp_rate * payload / completion.max(request),
                    Traffic::BothWays => tlp_rate * payload / (completion + request),
                })
            }
        }
    }

    /// The packet sizes in force: `MPS 256, MRRS 512`.
    pub(super) fn sizes(&self) -> String {
        let Self { write_payload_bytes: write, completion_payload_bytes: completion, read_request_bytes, .. } = self;
        let payload = if write == completion {
            format!("MPS {write}")
        } else {
            format!("MPS {write} for writes and {completion} for completions")
        };
        format!("{payload}, MRRS {read_request_bytes}")
    }

    fn in_flit_mode(&self) -> bool {
        self.flit_mode || self.link.generation >= FIRST_FLIT
    }

    /// A TLP without its payload, in bytes.
    fn packet_bytes(&self, header: f64) -> f64 {
        if self.in_flit_mode() { header } else { header + ENVELOPE_BYTES }
    }

    /// Rate that remains for TLPs after flits, SKP ordered sets and DLLPs.
    fn tlp_bytes_per_s(&self, payload: f64, traffic: Traffic) -> Option<f64> {
        let raw = self.link.raw_bytes_per_s()?;
        if self.in_flit_mode() {
            // Flits reserve bytes for DLLPs in any case.
            return Some(raw * FLIT_TLP_BYTES / FLIT_BYTES);
        }
        // The longest permitted interval: a SKP ordered set of 4 symbols in 1538, or one block after 375.
        let skip = if self.link.generation < FIRST_128B_130B { 4.0 / 1538.0 } else { 1.0 / 376.0 };
        let dllps = match traffic {
            Traffic::OneWay => 0.0,
            Traffic::BothWays => 2.0 * DLLP_BYTES / self.bytes_per_acknowledgement(payload),
        };
        Some(raw * (1.0 - skip - dllps))
    }

    /// Number of bytes after which a receiver must have sent an ACK, and should have updated its flow-control credits: the Ack
    /// Latency Limit and the Update Factor of the PCIe Base Specification 3.0, 3.5.3.1 and 2.6.1.2, in symbol times x lanes.
    fn bytes_per_acknowledgement(&self, payload: f64) -> f64 {
        const TLP_OVERHEAD_BYTES: f64 = 28.0;
        let internal_delay_symbols = match self.link.generation {
            0 | 1 => 19.0,
            2 => 70.0,
            _ => 115.0,
        };
        let factor = match (self.link.lanes, payload >= 512.0) {
            (12.., false) => 3.0,
            (12.., true) => 2.0,
            (8..12, false) => 2.5,
            (_, false) => 1.4,
            (_, true) => 1.0,
        };
        (payload + TLP_OVERHEAD_BYTES) * factor + internal_delay_symbols * f64::from(self.link.lanes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> impl Strategy<Value = LinkSettings> {
        let size = || (0u32..6).prop_map(|power| 128u16 << power);
        let lanes = prop::sample::select(vec![1u8, 2, 4, 8, 12, 16, 32]);
        (1u8..8, lanes, any::<bool>(), size(), size(), size(), any::<bool>()).prop_map(
            |(generation, lanes, flit_mode, write, completion, request, wide_addresses)| LinkSettings {
                link: Link { generation, lanes },
                flit_mode,
                write_payload_bytes: write,
                completion_payload_bytes: completion,
                read_request_bytes: request,
                wide_addresses,
            },
        )
    }

    fn rates(settings: &LinkSettings) -> Vec<f64> {
        let ways = [Traffic::OneWay, Traffic::BothWays];
        let pairs = [Op::Write, Op::Read].into_iter().flat_map(|op| ways.map(|traffic| (op, traffic)));
        pairs.map(|(op, traffic)| settings.bytes_per_s(op, traffic).unwrap()).collect()
    }

    fn grows(from: &LinkSettings, to: &LinkSettings) -> bool {
        rates(from).iter().zip(rates(to)).all(|(from, to)| *from <= to)
    }

    proptest! {
        #[test]
        fn never_exceeds_the_raw_rate(settings in settings()) {
            let raw = settings.link.raw_bytes_per_s().unwrap();
            for rate in rates(&settings) {
                prop_assert!(rate > 0.0 && rate < raw, "{rate} of {raw}");
            }
        }

        #[test]
        fn grows_with_lanes(settings in settings(), more in prop::sample::select(vec![2u8, 4, 8, 12, 16, 32])) {
            let Link { generation, lanes } = settings.link;
            prop_assume!(more >= lanes);
            let wider = LinkSettings { link: Link { generation, lanes: more }, ..settings };
            prop_assert!(grows(&settings, &wider), "{settings:?} {wider:?}");
        }

        #[test]
        fn grows_with_speed(settings in settings()) {
            let Link { generation, lanes } = settings.link;
            prop_assume!(generation < 7);
            let faster = LinkSettings { link: Link { generation: generation + 1, lanes }, ..settings };
            prop_assert!(grows(&settings, &faster), "{settings:?} {faster:?}");
        }

        #[test]
        fn grows_with_payload_and_request_sizes(settings in settings()) {
            let LinkSettings { write_payload_bytes, completion_payload_bytes, read_request_bytes, .. } = settings;
            let twice = |bytes: u16| (bytes * 2).min(4096);
            let larger = [
                LinkSettings { write_payload_bytes: twice(write_payload_bytes), ..settings },
                LinkSettings { completion_payload_bytes: twice(completion_payload_bytes), ..settings },
                LinkSettings { read_request_bytes: twice(read_request_bytes), ..settings },
            ];
            for larger in larger {
                prop_assert!(grows(&settings, &larger), "{settings:?} {larger:?}");
            }
        }

        #[test]
        fn one_way_is_never_below_both_ways(settings in settings()) {
            for op in [Op::Write, Op::Read] {
                prop_assert!(
                    settings.bytes_per_s(op, Traffic::OneWay) >= settings.bytes_per_s(op, Traffic::BothWays)
                );
            }
        }
    }

    #[test]
    fn an_unknown_generation_has_no_rate() {
        assert_eq!(Link { generation: 8, lanes: 16 }.raw_bytes_per_s(), None);
        assert_eq!(Link { generation: 0, lanes: 16 }.raw_bytes_per_s(), None);
        assert_eq!(Link { generation: 1, lanes: 4 }.to_string(), "2.5 GT/s x4");
        assert_eq!(Link { generation: 5, lanes: 16 }.to_string(), "32 GT/s x16");
    }
}
