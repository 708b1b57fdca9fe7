//! Recognizes files that users pass by mistake instead of a snapshot or the output of lspci.

/// What a file is, as a noun phrase, and what to give instead, as an imperative sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) what: &'static str,
    pub(super) instead: &'static str,
}

const LSPCI: &str = "Give the output of `lspci -vvvnn`, run as root, or a snapshot.";
const TEXT: &str = "Give the text itself: the output of `lspci -vvvnn`, run as root.";
const UNPACK: &str = "Unpack it, and give the files in it: a snapshot, or the output of `lspci -vvvnn`.";
const MORE: &str = "Give the output of `lspci -vvvnn`, run as root; the list may be given together with it.";

/// A list of functions that shows neither their bridges nor their registers.
pub(super) const NAMES_ONLY: Kind = Kind {
    what: "a list of functions that shows neither bridges nor registers (`lspci` without -v, -x and -t)",
    instead: MORE,
};

/// Bytes of an unknown kind.
pub(super) const BINARY: Kind = Kind { what: "a file of binary data", instead: LSPCI };

/// The first bytes of files that are not text.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (b"\x89PNG", "an image (PNG)", TEXT),
    (b"\xff\xd8\xff", "an image (JPEG)", TEXT),
    (b"GIF8", "an image (GIF)", TEXT),
    (b"BM", "an image (BMP)", TEXT),
    (b"RIFF", "an image (WebP)", TEXT),
    (b"%PDF", "a PDF document", TEXT),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"\xfd7zXZ", "a file compressed with xz", UNPACK),
    (b"BZh", "a file compressed with bzip2", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd", UNPACK),
    (b"\x7fELF", "a program (ELF)", LSPCI),
];

/// Recognizes a file that is not text by its first bytes.
pub(super) fn of_bytes(head: &[u8]) -> Option<Kind> {
    let matches =
        |(magic, _, _): &&(&[u8], &str, &str)| head.starts_with(magic) && (magic.len() > 2 || head.contains(&0));
    MAGIC.iter().find(matches).map(|(_, what, instead)| Kind { what, instead })
}

/// Names the kind of a text that is not the output of lspci.
pub(super) fn of_text(text: &str) -> Kind {
    /// Only the beginning of a text is examined.
    const LINES: usize = 200;
    let start = text.trim_start();
    let lines = || text.lines().take(LINES).map(str::trim_start);
    let many = |wanted: fn(&str) -> bool| lines().filter(|line| wanted(line)).count() >= 2;
    let any = |wanted: fn(&str) -> bool| lines().any(wanted);
    if is_binary(text) {
        return BINARY;
    }
    let (what, instead) = if start.is_empty() {
        ("an empty file", LSPCI)
    } else if start.starts_with(['{', '[']) && start.contains("\"predicted\"") && !start.contains("\"cells\"") {
        ("a JSON file with predictions of paths", "Give the snapshot or the text that it was made from.")
    } else if start.starts_with('{') && start.contains("\"cells\"") {
        ("a JSON file with results of measurements", "Give a snapshot of the host that was measured.")
    } else if start.starts_with("{") || start.starts_with("[\n") || start.starts_with("[{") {
        ("a JSON file", LSPCI)
    } else if start.starts_with("<!DOCTYPE") || start.starts_with("<html") {
        ("an HTML page", TEXT)
    } else if many(|line| line.starts_with("Slot:\t") || line.starts_with("Device:\t") || line.starts_with("Class:\t"))
        || many(is_machine_readable)
    {
        ("the machine-readable output of lspci (-m), which shows neither bridges nor registers", LSPCI)
    } else if many(is_kernel_log) {
        ("a kernel log", "Give the output of `lspci -vvvnn`, run as root; a kernel log does not show ACS.")
    } else if any(|line| line.contains("NVIDIA-SMI"))
        || many(|line| line.starts_with("GPU") && line.contains(" X "))
        || any(|line| line.contains("GPU0") && line.contains("CPU Affinity"))
    {
        ("the output of nvidia-smi", "Give the output of `lspci -vvvnn`, run as root; nvidia-smi does not show ACS.")
    } else if any(|line| line.starts_with("BOOT_IMAGE=")) {
        (
            "a kernel command line",
            "Use it to describe the command line, together with a snapshot or the output of `lspci -vvvnn`.",
        )
    } else if any(super::given::is_about_the_processor) {
        (
            "a description of the processor",
            "Use it to describe the processor, together with a snapshot or the output of `lspci -vvvnn`.",
        )
    } else if many(|line| line.starts_with("Bus ") && line.contains(": ID ")) {
        ("the output of lsusb", LSPCI)
    } else if any(|line| line.starts_with("Machine (") || line.starts_with("HostBridge")) {
        ("the output of lstopo", "Give the output of `lspci -vvvnn`, run as root; lstopo does not show ACS.")
    } else if any(|line| line.starts_with("hca_id:") || line.starts_with("CA '")) {
        ("a list of RDMA devices", LSPCI)
    } else if any(|line| line.starts_with("pcilib:") || line.starts_with("lspci:")) {
        ("an error message of lspci", LSPCI)
    } else {
        ("a text file that lists no PCI functions", LSPCI)
    };
    Kind { what, instead }
}

/// Whether many characters at the beginning are not text: control characters, or bytes that are not valid UTF-8.
fn is_binary(text: &str) -> bool {
    const LETTERS: usize = 512;
    let is_odd =
        |letter: &char| (letter.is_control() && !letter.is_whitespace()) || *letter == char::REPLACEMENT_CHARACTER;
    let odd = text.chars().take(LETTERS).filter(is_odd).count();
    odd * 4 > text.chars().take(LETTERS).count()
}

/// Whether a line has the format of `lspci -m`: `00:00.0 "Host bridge" "Intel Corporation" ...`
fn is_machine_readable(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(address, rest)| address.parse::<crate::Bdf>().is_ok() && rest.starts_with('"'))
}

/// Whether a line is from the kernel log: `[    0.000000] Linux version ...`, also with the time and host name of the journal.
fn is_kernel_log(line: &str) -> bool {
    let stamp = |line: &str| {
        let inner = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        inner.is_some_and(|(time, _)| time.trim().parse::<f64>().is_ok())
    };
    stamp(line) || line.contains(" kernel: ") || line.starts_with("kernel: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_that_are_not_text() {
        assert_eq!(of_bytes(b"\x89PNG\r\n\x1a\n").map(|kind| kind.what), Some("an image (PNG)"));
        assert_eq!(of_bytes(b"PK\x03\x04").map(|kind| kind.what), Some("a zip archive"));
        assert_eq!(of_bytes(b"BMC output\n"), None);
    }

    #[test]
    fn names_texts_of_other_programs() {
        for (text, what) in [
            ("", "an empty file"),
            ("\u{fffd}\u{1}\u{fffd}a\u{7f}\u{fffd}b\n", "a file of binary data"),
            ("[    0.000000] Linux version 6.8\n[    0.1] pci 0000:00:00.0: [8086:29c0]\n", "a kernel log"),
            ("Nov 1 10:00:00 h kernel: a\nNov 1 10:00:00 h kernel: b\n", "a kernel log"),
            ("{\"cells\": []}", "a JSON file with results of measurements"),
            ("[{\"predicted\": 1}]", "a JSON file with predictions of paths"),
            ("vendor_id\t: GenuineIntel\n", "a description of the processor"),
            ("BOOT_IMAGE=/vmlinuz quiet\n", "a kernel command line"),
            ("\tGPU0\tGPU1\tCPU Affinity\n", "the output of nvidia-smi"),
            (
                "00:00.0 \"Host bridge\" \"Intel\"\n00:01.0 \"PCI bridge\" \"Intel\"\n",
                "the machine-readable output of lspci (-m), which shows neither bridges nor registers",
            ),
            ("hello\n", "a text file that lists no PCI functions"),
        ] {
            assert_eq!(of_text(text).what, what, "{text}");
        }
    }
}
