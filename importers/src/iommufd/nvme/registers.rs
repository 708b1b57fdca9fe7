//! Registers of a controller, and its capabilities.

use std::time::Duration;

pub(super) const CAP: u64 = 0x00;
pub(super) const INTMS: u64 = 0x0c;
pub(super) const CC: u64 = 0x14;
pub(super) const CSTS: u64 = 0x1c;
pub(super) const AQA: u64 = 0x24;
pub(super) const ASQ: u64 = 0x28;
pub(super) const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;

pub(super) const CSTS_READY: u32 = 1;
pub(super) const CSTS_FATAL: u32 = 1 << 1;
/// Value of every 32-bit register read after the function was removed: all ones.
pub(super) const GONE: u32 = u32::MAX;

/// Capabilities of a controller (CAP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Maximum entries of an I/O queue (MQES).
    pub(super) queue_entries: u32,
    /// Timeout to enable or disable the controller (TO).
    pub(super) timeout: Duration,
    /// Distance between two consecutive doorbell registers, in bytes (DSTRD).
    doorbell_stride_bytes: u64,
    /// Whether the controller supports the NVM command set (CSS).
    pub(super) has_blocks: bool,
    /// Minimum memory page size in bytes (MPSMIN).
    pub(super) least_page_bytes: u64,
}

impl Capabilities {
    pub(super) fn parse(cap: u64) -> Self {
        let bits = |from: u32, count: u32| cap >> from & ((1 << count) - 1);
        Self {
            // MQES is zero-based: 0 means one entry.
            queue_entries: bits(0, 16) as u32 + 1,
            // CAP.TO counts units of 500 ms and may be 0. One unit is added, because the timeout must not be 0.
            timeout: Duration::from_millis(500) * (bits(24, 8) as u32 + 1),
            doorbell_stride_bytes: 4 << bits(32, 4),
            has_blocks: bits(37, 1) == 1,
            least_page_bytes: 4096 << bits(48, 4),
        }
    }

    pub(super) fn submission_doorbell(&self, queue: u16) -> u64 {
        DOORBELLS + 2 * u64::from(queue) * self.doorbell_stride_bytes
    }

    pub(super) fn completion_doorbell(&self, queue: u16) -> u64 {
        DOORBELLS + (2 * u64::from(queue) + 1) * self.doorbell_stride_bytes
    }
}

/// Returns the value of CC that enables the controller: NVM command set, pages of `page_bytes`, submission queue entries of
/// 64 bytes, completion queue entries of 16 bytes.
pub(super) fn enabled(page_bytes: u64) -> u32 {
    1 | (page_bytes.trailing_zeros() - 12) << 7 | 6 << 16 | 4 << 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_the_capabilities_of_an_emulated_drive() {
        // MQES 2047, CQR 1, TO 15, the NVM command set, pages from 4 KiB to 64 KiB.
        let capabilities = Capabilities::parse(0x0040_0020_0f01_07ff | 1 << 37);
        assert_eq!(capabilities.queue_entries, 2048);
        assert_eq!(capabilities.timeout, Duration::from_secs(8));
        assert!(capabilities.has_blocks);
        assert_eq!(capabilities.least_page_bytes, 4096);
        assert_eq!((capabilities.submission_doorbell(0), capabilities.completion_doorbell(0)), (0x1000, 0x1004));
        assert_eq!((capabilities.submission_doorbell(3), capabilities.completion_doorbell(3)), (0x1018, 0x101c));
        assert_eq!(enabled(4096), 0x0046_0001);
        assert_eq!(enabled(8192), 0x0046_0081);
    }

    proptest! {
        #[test]
        fn never_panics(cap: u64) {
            let capabilities = Capabilities::parse(cap);
            prop_assert!((1..=65536).contains(&capabilities.queue_entries));
            prop_assert!(capabilities.timeout <= Duration::from_secs(128));
            prop_assert!(capabilities.least_page_bytes.is_power_of_two());
            prop_assert!(capabilities.completion_doorbell(u16::MAX) > capabilities.submission_doorbell(u16::MAX));
        }
    }
}
