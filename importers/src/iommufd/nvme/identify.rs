//! What a drive says of itself. Nothing of it is believed unseen.

/// Bytes of every answer to an identify command.
pub(super) const BYTES: usize = 4096;
/// The block count of a command has 16 bits.
const MOST_BLOCKS: u64 = 65536;
/// Longer commands bring nothing.
const LONGEST_BYTES: u64 = 1 << 20;

/// A drive, as far as moving data is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drive {
    /// Its model.
    pub(crate) model: String,
    /// Its firmware.
    pub(crate) firmware: String,
    /// The namespace that is used: the first active one.
    pub(crate) namespace: u32,
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// Bytes of a block.
    pub(crate) block_bytes: u64,
    /// Bytes that one command carries at most, in whole blocks.
    pub(crate) command_bytes: u64,
}

/// What the controller says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControllerAnswer {
    pub(super) model: String,
    pub(super) firmware: String,
    /// No limit where there is none.
    pub(super) transfer_bytes: Option<u64>,
}

/// The part of an answer that a namespace is described by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NamespaceAnswer {
    pub(super) blocks: u64,
    pub(super) block_bytes: u64,
}

impl ControllerAnswer {
    /// `least_page_bytes`: of the controller's capabilities, in which its limit is given.
    pub(super) fn parse(bytes: &[u8; BYTES], least_page_bytes: u64) -> Self {
        let limit = u32::from(bytes[77]);
        Self {
            model: text(&bytes[24..64]),
            firmware: text(&bytes[64..72]),
            // A power of two of pages; what leaves 64 bits is no limit.
            transfer_bytes: (limit != 0).then(|| least_page_bytes.checked_mul(1_u64.checked_shl(limit)?)).flatten(),
        }
    }
}

/// The first active namespace.
pub(super) fn first_namespace(bytes: &[u8; BYTES]) -> Option<u32> {
    let first = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (first != 0 && first < 0xffff_fffe).then_some(first)
}

impl NamespaceAnswer {
    /// # Errors
    /// Why its blocks cannot be used, as part of a sentence.
    pub(super) fn parse(bytes: &[u8; BYTES]) -> Result<Self, &'static str> {
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[..8]);
        let blocks = u64::from_le_bytes(size);
        // The number of the format in use: four low bits, and above 16 formats two more.
        let format =
            usize::from(bytes[26] & 0xf) | if bytes[25] > 15 { usize::from(bytes[26] >> 5 & 3) << 4 } else { 0 };
        let at = 128 + 4 * format;
        let metadata_bytes = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let shift = u32::from(bytes[at + 2]);
        if blocks == 0 {
            return Err("its first namespace has no blocks");
        }
        if format > usize::from(bytes[25]) {
            return Err("it names a block format that it does not have");
        }
        if metadata_bytes != 0 {
            return Err("its blocks carry metadata");
        }
        if !(9..=16).contains(&shift) {
            return Err("its blocks are not between 512 bytes and 64 KiB");
        }
        let block_bytes = 1 << shift;
        if blocks.checked_mul(block_bytes).is_none() {
            return Err("its capacity leaves 64 bits");
        }
        Ok(Self { blocks, block_bytes })
    }
}

impl Drive {
    /// # Errors
    /// It carries not even one block in a command.
    pub(super) fn new(
        controller: ControllerAnswer,
        namespace: u32,
        answer: NamespaceAnswer,
        prp_bytes: u64,
    ) -> Result<Self, &'static str> {
        let NamespaceAnswer { blocks, block_bytes } = answer;
        let limit = controller.transfer_bytes.unwrap_or(u64::MAX);
        let longest = limit.min(prp_bytes).min(LONGEST_BYTES).min(MOST_BLOCKS * block_bytes);
        let command_bytes = longest / block_bytes * block_bytes;
        if command_bytes == 0 {
            return Err("a command of it carries less than a block");
        }
        let ControllerAnswer { model, firmware, .. } = controller;
        Ok(Self { model, firmware, namespace, blocks, block_bytes, command_bytes })
    }
}

/// ASCII, filled up with blanks; anything else becomes a question mark.
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
    fn a_drive_is_described() {
        let drive = drive(7, 9).unwrap();
        assert_eq!((drive.model.as_str(), drive.firmware.as_str()), ("QEMU NVMe Ctrl", "10.0.1"));
        assert_eq!((drive.block_bytes, drive.blocks, drive.command_bytes), (512, 131_072, 512 << 10));
    }

    #[test]
    fn limits_of_any_size_are_limits() {
        assert_eq!(drive(0, 9).unwrap().command_bytes, LONGEST_BYTES);
        assert_eq!(drive(1, 12).unwrap().command_bytes, 8192);
        assert_eq!(drive(1, 13).unwrap().command_bytes, 8192);
        assert!(drive(1, 14).is_err(), "8 KiB carry no block of 16 KiB");
        for limit in [51, 52, 63, 64, 255] {
            assert_eq!(drive(limit, 9).unwrap().command_bytes, LONGEST_BYTES, "{limit}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
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
    fn only_a_real_number_is_a_namespace() {
        let mut list = Box::new([0; BYTES]);
        assert_eq!(first_namespace(&list), None);
        list[0] = 7;
        assert_eq!(first_namespace(&list), Some(7));
        list[..4].fill(0xff);
        assert_eq!(first_namespace(&list), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(seed in proptest::collection::vec(any::<u8>(), 384), least_page_shift in 12_u32..28) {
            let mut bytes = Box::new([0; BYTES]);
            bytes[..seed.len()].copy_from_slice(&seed);
            let controller = ControllerAnswer::parse(&bytes, 1 << least_page_shift);
            if let Ok(answer) = NamespaceAnswer::parse(&bytes)
                && let Ok(drive) = Drive::new(controller, 1, answer, 2 << 20)
            {
                prop_assert!(drive.command_bytes >= drive.block_bytes);
                prop_assert!(drive.command_bytes.is_multiple_of(drive.block_bytes));
                prop_assert!(drive.command_bytes / drive.block_bytes <= MOST_BLOCKS);
                prop_assert!(drive.blocks.checked_mul(drive.block_bytes).is_some());
            }
        }
    }
}
