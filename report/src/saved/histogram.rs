//! Latency samples, decoded from the histogram of a cell.

use std::io::Read as _;

use base64::Engine as _;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// Maximum length of the base64 text of a histogram, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Maximum length of a histogram after decompression, in bytes.
const MAX_HISTOGRAM_BYTES: u64 = 8 << 20;
/// Bytes of the cookie and the length field before the compressed data.
const PACKED_HEADER_BYTES: usize = 8;
/// Bytes of the header before the counts: cookie, length, offset, digits, bounds and ratio.
const HEADER_BYTES: usize = 40;

/// A latency distribution. Values have the unit of the samples: nanoseconds for a saved cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Values in ascending order, each with the number of samples up to it.
    steps: Vec<(f64, u64)>,
}

impl Distribution {
    /// Decodes a compressed HdrHistogram V2 in base64, the form in `result.json`.
    ///
    /// `None` if the text is not such a histogram, if it has no samples, or if it is longer than 1 MiB (8 MiB decompressed).
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let packed = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let mut bytes = Vec::new();
        ZlibDecoder::new(packed.get(PACKED_HEADER_BYTES..)?).take(MAX_HISTOGRAM_BYTES).read_to_end(&mut bytes).ok()?;
        // The decoder allocates the length in the header before it reads the data.
        let claimed = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
        if claimed > bytes.len().checked_sub(HEADER_BYTES)? {
            return None;
        }
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        let mut total = 0_u64;
        let mut steps = Vec::new();
        for step in histogram.iter_recorded() {
            total = total.checked_add(step.count_since_last_iteration())?;
            steps.push((histogram.highest_equivalent(step.value_iterated_to()) as f64, total));
        }
        (total > 0).then_some(Self { steps })
    }

    /// Builds the distribution of samples. Infinite samples and NaN are ignored; `None` if no other samples remain.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let steps: Vec<_> = sorted.into_iter().zip(1..).collect();
        (!steps.is_empty()).then_some(Self { steps })
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.1)
    }

    /// Sample at a rank, counted from 1. A rank out of range gives the first or the last sample.
    pub fn at_rank(&self, rank: f64) -> f64 {
        let rank = rank.clamp(1.0, self.count() as f64).round() as u64;
        let at = self.steps.partition_point(|step| step.1 < rank);
        self.steps[at.min(self.steps.len() - 1)].0
    }

    /// Value that a share of the samples (0 to 1) does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        self.at_rank((share * self.count() as f64).ceil())
    }

    /// [`Distribution::quantile`], or `None` if there are too few samples to distinguish it from the maximum.
    pub fn supported_quantile(&self, share: f64) -> Option<f64> {
        ((1.0 - share) * self.count() as f64 >= 1.0).then(|| self.quantile(share))
    }
}

/// Name of a quantile: `p99.9` for 0.999.
pub fn quantile_name(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_quantiles_of_samples() {
        let samples: Vec<f64> = (1..=1000).map(f64::from).collect();
        let distribution = Distribution::of(&samples).unwrap();
        assert_eq!(distribution.quantile(0.5), 500.0);
        assert_eq!(distribution.quantile(0.99), 990.0);
        assert_eq!(distribution.quantile(1.0), 1000.0);
        assert_eq!(distribution.supported_quantile(0.999), Some(999.0));
        assert_eq!(distribution.supported_quantile(0.9999), None);
        assert_eq!(Distribution::of(&[]), None);
        assert_eq!((quantile_name(0.5), quantile_name(0.9999)), ("p50".to_owned(), "p99.99".to_owned()));
    }

    #[test]
    fn rejects_text_that_is_not_a_histogram() {
        for text in ["", "x", "HISTFAAAAIJ4nC2MMQ", "HISTFAAAAAB4nAMAAAAAAQ=="] {
            assert_eq!(Distribution::decode(text), None, "{text}");
        }
        assert_eq!(Distribution::decode(&"A".repeat(MAX_TEXT_BYTES + 4)), None);
    }

    #[test]
    fn rejects_histogram_shorter_than_its_header_claims() {
        use std::io::Write as _;
        let mut header = vec![0x1c, 0x84, 0x93, 0x13];
        header.extend(u32::MAX.to_be_bytes());
        header.extend([0; 32]);
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(&header).unwrap();
        let packed = packer.finish().unwrap();
        let mut bytes = vec![0x1c, 0x84, 0x93, 0x14];
        bytes.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
        bytes.extend(packed);
        assert_eq!(Distribution::decode(&base64::engine::general_purpose::STANDARD.encode(bytes)), None);
    }
}
