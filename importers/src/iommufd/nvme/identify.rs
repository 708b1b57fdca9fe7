//! Results of identify commands. All values are checked before use.

/// Length of the data structure that an identify command returns, in bytes.
pub(super) const BYTES: usize = 4096;
/// Maximum blocks per command: the zero-based count has 16 bits.
const MAX_BLOCKS: u64 = 65536;
/// Maximum bytes per command. Longer commands are no faster.
const MAX_BYTES: u64 = 1 << 20;

/// Properties of a drive that transfers depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drive {
    /// Model number (MN).
    pub(crate) model: String,
    /// Firmware revision (FR).
    pub(crate) firmware: String,
    /// ID of the namespace in use, the first active namespace.
    pub(crate) namespace: u32,
    /// Capacity in blocks.
    pub(crate) blocks: u64,
    /// Block length in bytes (LBA data size of the LBA format in use).
    pub(crate) block_bytes: u64,
    /// Maximum bytes per command, a multiple of `block_bytes`.
    pub(crate) command_bytes: u64,
}

/// Fields of the Identify Controller data structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControllerAnswer {
    pub(super) model: String,
    pub(super) firmware: String,
    /// Maximum bytes per command (MDTS). `None` if the controller has no limit.
    pub(super) transfer_bytes: Option<u64>,
}

/// Fields of the Identify Namespace data structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NamespaceAnswer {
    pub(super) blocks: u64,
    pub(super) block_bytes: u64,
}

impl ControllerAnswer {
    /// Parses the data structure. `least_page_bytes` (CAP.MPSMIN) is the unit of MDTS.
    pub(super) fn parse(bytes: &[u8; BYTES], least_page_bytes: u64) -> Self {
        let limit = u32::from(bytes[77]);
        Self {
            model: text(&bytes[24..64]),
            firmware: text(&bytes[64..72]),
            // MDTS is the exponent of a power of two, in pages. A limit beyond 64 bits is treated as unlimited.
            transfer_bytes: (limit != 0).then(|| least_page_bytes.checked_mul(1_u64.checked_shl(limit)?)).flatten(),
        }
    }
}

/// Returns the ID of the first active namespace. `None` if no namespace is active.
pub(super) fn first_namespace(bytes: &[u8; BYTES]) -> Option<u32> {
    let first = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (first != 0 && first < 0xffff_fffe).then_some(first)
}

impl NamespaceAnswer {
    /// Parses the data structure.
    ///
    /// # Errors
    /// This driver cannot use the LBA format; the error is the reason.
    pub(super) fn parse(bytes: &[u8; BYTES]) -> Result<Self, &'static str> {
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[..8]);
        let blocks = u64::from_le_bytes(size);
        // FLBAS holds the index of the LBA format in use: 4 bits, and 2 more if there are more than 16 formats.
        let format =
            usize::from(bytes[26] & 0xf) | if bytes[25] > 15 { usize::from(bytes[26] >> 5 & 3) << 4 } else { 0 };
        let at = 128 + 4 * format;
        let metadata_bytes = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let shift = u32::from(bytes[at + 2]);
        if blocks == 0 {
            return Err("its first namespace has no blocks");
        }
        if format > usize::from(bytes[25]) {
            return Err("it reports an unknown LBA format");
        }
        if metadata_bytes != 0 {
            return Err("its blocks have metadata");
        }
        if !(9..=16).contains(&shift) {
            return Err("its block size is not between 512 bytes and 64 KiB");
        }
        let block_bytes = 1 << shift;
        if blocks.checked_mul(block_bytes).is_none() {
            return Err("its capacity exceeds 64 bits");
        }
        Ok(Self { blocks, block_bytes })
    }
}

impl Drive {
    /// Combines the answers of the drive. `prp_bytes` is the maximum length that one PRP list can describe.
    ///
    /// # Errors
    /// The maximum transfer size is smaller than a block.
    pub(super) fn new(
        controller: ControllerAnswer,
        namespace: u32,
        answer: NamespaceAnswer,
        prp_bytes: u64,
    ) -> Result<Self, &'static str> {
        let NamespaceAnswer { blocks, block_bytes } = answer;
        let limit = controller.transfer_bytes.unwrap_or(u64::MAX);
        let longest = limit.min(prp_bytes).min(MAX_BYTES).min(MAX_BLOCKS * block_bytes);
        let command_bytes = longest / block_bytes * block_bytes;
        if command_bytes == 0 {
            return Err("its maximum transfer size is smaller than a block");
        }
        let ControllerAnswer { model, firmware, .. } = controller;
        Ok(Self { model, firmware, namespace, blocks, block_bytes, command_bytes })
    }
}

/// Decodes ASCII text padded with spaces. Other bytes become question marks.
fn text(bytes: &[u8]) -> String {
    let letter = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    let text: String = bytes.iter().take_while(|byte| **byte != 0).map(letter).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn controller(limit: u8) -> Box<[u8; BYTES]> {
        let mut bytes = Box::new([0; BYTES]);
        bytes[24..64].fill(b' ');
        bytes[24..38].copy_from_slice(b"QEMU NVMe Ctrl");
        bytes[64..72].copy_from_slice(b"10.0.1\0\0");
        bytes[77] = limit;
        bytes
    }

    fn namespace(blocks: u64, shift: u8) -> Box<[u8; BYTES]> {
        let mut bytes = Box::new([0; BYTES]);
        bytes[..8].copy_from_slice(&blocks.to_le_bytes());
        bytes[130] = shift;
        bytes
    }

    fn drive(limit: u8, shift: u8) -> Result<Drive, &'static str> {
        let answer = NamespaceAnswer::parse(&namespace(131_072, shift)).unwrap();
        Drive::new(ControllerAnswer::parse(&controller(limit), 4096), 1, answer, 2 << 20)
    }

    #[test]
    fn parses_a_drive() {
        let drive = drive(7, 9).unwrap();
        assert_eq!((drive.model.as_str(), drive.firmware.as_str()), ("QEMU NVMe Ctrl", "10.0.1"));
        assert_eq!((drive.block_bytes, drive.blocks, drive.command_bytes), (512, 131_072, 512 << 10));
    }

    #[test]
    fn limits_the_bytes_of_a_command() {
        assert_eq!(drive(0, 9).unwrap().command_bytes, MAX_BYTES);
        assert_eq!(drive(1, 12).unwrap().command_bytes, 8192);
        assert_eq!(drive(1, 13).unwrap().command_bytes, 8192);
        assert!(drive(1, 14).is_err(), "a block of 16 KiB exceeds the limit of 8 KiB");
        for limit in [51, 52, 63, 64, 255] {
            assert_eq!(drive(limit, 9).unwrap().command_bytes, MAX_BYTES, "{limit}");
        }
    }

    #[test]
    fn rejects_unusable_namespaces() {
        assert!(NamespaceAnswer::parse(&namespace(0, 9)).is_err());
        assert!(NamespaceAnswer::parse(&namespace(1, 8)).is_err());
        assert!(NamespaceAnswer::parse(&namespace(1, 255)).is_err());
        assert!(NamespaceAnswer::parse(&namespace(u64::MAX, 12)).is_err());
        let mut metadata = namespace(1, 9);
        metadata[128] = 8;
        assert!(NamespaceAnswer::parse(&metadata).is_err());
        let mut format = namespace(1, 9);
        format[26] = 3;
        assert!(NamespaceAnswer::parse(&format).is_err());
    }

    #[test]
    fn finds_the_first_namespace() {
        let mut list = Box::new([0; BYTES]);
        assert_eq!(first_namespace(&list), None);
        list[0] = 7;
        assert_eq!(first_namespace(&list), Some(7));
        list[..4].fill(0xff);
        assert_eq!(first_namespace(&list), None);
    }

    proptest! {
        #[test]
        fn never_panics(seed in proptest::collection::vec(any::<u8>(), 384), least_page_shift in 12_u32..28) {
            let mut bytes = Box::new([0; BYTES]);
            bytes[..seed.len()].copy_from_slice(&seed);
            let controller = ControllerAnswer::parse(&bytes, 1 << least_page_shift);
            if let Ok(answer) = NamespaceAnswer::parse(&bytes)
                && let Ok(drive) = Drive::new(controller, 1, answer, 2 << 20)
            {
                prop_assert!(drive.command_bytes >= drive.block_bytes);
                prop_assert!(drive.command_bytes.is_multiple_of(drive.block_bytes));
                prop_assert!(drive.command_bytes / drive.block_bytes <= MAX_BLOCKS);
                prop_assert!(drive.blocks.checked_mul(drive.block_bytes).is_some());
            }
        }
    }
}
