//! Repairs text that is almost JSON: a file that ends early, and numbers that JSON cannot express.

/// Repairs the text as far as possible. Returns the repaired text with a remark for each kind of repair.
///
/// `NaN` and `Infinity` become null. A file that ends early is cut after its last complete cell.
pub(super) fn repair(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut repairer = Repairer::default();
    let mut at = 0;
    while at < bytes.len() {
        at += repairer.next(&bytes[at..]);
    }
    repairer.end()
}

#[derive(Default)]
struct Repairer {
    repaired: Vec<u8>,
    /// Open brackets, the innermost last.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    non_finite: usize,
    /// Length of `repaired` after the last complete element of a list directly below the top-level object.
    last_complete: Option<usize>,
}

const NON_FINITE: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

impl Repairer {
    /// Consumes the next bytes and returns their number.
    fn next(&mut self, rest: &[u8]) -> usize {
        let byte = rest[0];
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.repaired.push(byte);
            return 1;
        }
        if let Some(number) = NON_FINITE.iter().find(|number| rest.starts_with(number)) {
            self.non_finite += 1;
            self.repaired.extend(b"null");
            return number.len();
        }
        self.repaired.push(byte);
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.open.push(byte),
            b'}' | b']' => {
                self.open.pop();
                if self.open == b"{[" {
                    self.last_complete = Some(self.repaired.len());
                }
            }
            _ => {}
        }
        1
    }

    fn end(mut self) -> (Vec<u8>, Vec<String>) {
        let mut remarks = Vec::new();
        match self.non_finite {
            0 => {}
            1 => remarks.push("ignored 1 number that is NaN or infinite".to_owned()),
            count => remarks.push(format!("ignored {count} numbers that are NaN or infinite")),
        }
        if !self.open.is_empty()
            && let Some(length) = self.last_complete
        {
            self.repaired.truncate(length);
            self.repaired.extend(b"]}");
            remarks.push("the file is truncated: only its complete cells are shown".to_owned());
        }
        (self.repaired, remarks)
    }
}
