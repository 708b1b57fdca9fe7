//! Finds PCI addresses, and addresses of blocked accesses, in a line of the kernel log.

use crate::Bdf;

/// Maximum number of functions per line. No kernel message names more.
const MAX_FUNCTIONS: usize = 16;

/// The PCI functions that a line names, each once, in the order of the line.
pub(super) fn functions(line: &str) -> Vec<Bdf> {
    let mut found = Vec::new();
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    for part in line.split(|c| !is_part(c)) {
        let Some(bdf) = address(part.trim_matches([':', '.'])) else { continue };
        if !found.contains(&bdf) {
            found.push(bdf);
        }
        if found.len() == MAX_FUNCTIONS {
            break;
        }
    }
    if found.is_empty() { nvidia(line).into_iter().collect() } else { found }
}

/// Parses `0000:03:00.0`, or `03:00.0` as kernels before 5.12 print in IOMMU faults. The number of digits distinguishes an
/// address from a time of day such as `10:04:05.1`.
fn address(text: &str) -> Option<Bdf> {
    let (head, function) = text.split_once('.')?;
    let digits: Vec<usize> = head.split(':').map(str::len).collect();
    let is_address = matches!(digits[..], [4..=8, 2, 2] | [2, 2]) && function.len() == 1;
    is_address.then(|| text.parse().ok())?
}

/// Parses the address in a message of NVIDIA's driver, which omits the function number: `Xid (PCI:0000:cb:00)`.
fn nvidia(line: &str) -> Option<Bdf> {
    let text = line.split_once("(PCI:")?.1.split_once(')')?.0;
    address(&format!("{text}.0"))
}

/// Text before the address in the faults of the IOMMU drivers: intel, amd, arm-smmu, arm-smmu-v3, riscv, virtio.
const BEFORE_AN_ADDRESS: &[&str] = &["fault addr ", " address=", " iova=", " iova: ", " iotval: ", " at 0x"];

/// The address of the access that an IOMMU blocked, in hexadecimal with or without `0x`.
pub(super) fn blocked(line: &str) -> Option<u64> {
    let after = |before: &&str| line.split_once(before).map(|(_, rest)| rest);
    let text = BEFORE_AN_ADDRESS.iter().find_map(after)?;
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits = text.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        functions(line).iter().map(Bdf::to_string).collect()
    }

    #[test]
    fn finds_each_function_once_in_the_order_of_the_line() {
        assert_eq!(
            names("e1000e 0000:04:00.0: ACS redirect is set between the client and provider (0000:03:00.0)"),
            ["0000:04:00.0", "0000:03:00.0"]
        );
        assert_eq!(names("pci=disable_acs_redir=0000:02:00.0;10000:02:01.0"), ["0000:02:00.0", "10000:02:01.0"]);
        assert_eq!(names("pcieport 0000:00:1c.0: received from 0000:00:1c.0"), ["0000:00:1c.0"]);
        assert_eq!(names("DMAR:[DMA Read] Request device [03:00.0] fault addr 0"), ["0000:03:00.0"]);
        assert_eq!(names("NVRM: Xid (PCI:0000:cb:00): 79, pid=1"), ["0000:cb:00.0"]);
    }

    #[test]
    fn finds_the_address_of_a_blocked_access() {
        for (line, address) in [
            (
                "DMAR: [DMA Read NO_PASID] Request device [0000:08:00.0] fault addr 0x2345000 [fault reason 0x06]",
                Some(0x234_5000),
            ),
            ("DMAR:[DMA Read] Request device [03:00.0] fault addr ffe65000 ", Some(0xffe6_5000)),
            ("AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xfff00000 flags=0x0020]", Some(0xfff0_0000)),
            (
                "event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0xdead0000 ipa: 0x0",
                Some(0xdead_0000),
            ),
            ("Unhandled context fault: fsr=0x402, iova=0xdead0000, fsynr=0x1", Some(0xdead_0000)),
            ("page fault from EP 8 at 0x1000 [W]", Some(0x1000)),
            ("fault addr 0x12345678901234567890", None),
            ("fault addr ", None),
        ] {
            assert_eq!(blocked(line), address, "{line}");
        }
    }

    #[test]
    fn ignores_times_and_network_addresses() {
        for line in [
            "2026-11-30T10:04:05.1+00:00 host kernel: x",
            "Nov 30 10:04:05 host kernel: [   12.345678] x",
            "10:04:05.1 x",
            "10:04:05.123456 x",
            "aa:bb:cc:dd:ee:ff 10.0.0.1 fe80::1.2",
            "NVRM: Xid (PCI:zz): 79",
        ] {
            assert_eq!(names(line), [""; 0], "{line}");
        }
    }
}
