//! What can be saved of a file that is no JSON: one that ends early, and one with figures that JSON has no words for.

/// Makes JSON of it where that is possible, and says what had to be done.
///
/// `NaN` and `Infinity` become null. Of a file that ends early, what follows the last finished cell is cut off.
pub(super) fn repair(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut reader = Reader::default();
    let mut at = 0;
    while at < bytes.len() {
        at += reader.next(&bytes[at..]);
    }
    reader.end()
}

#[derive(Default)]
struct Reader {
    repaired: Vec<u8>,
    /// The brackets that are open.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    no_numbers: usize,
    /// Length at which the last element of a list right below the object of the file was finished.
    last_finished: Option<usize>,
}

const NO_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

impl Reader {
    /// Takes the next bytes, and says how many.
    fn next(&mut self, rest: &[u8]) -> usize {
        let byte = rest[0];
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.repaired.push(byte);
            return 1;
        }
        if let Some(word) = NO_NUMBERS.iter().find(|word| rest.starts_with(word)) {
            self.no_numbers += 1;
            self.repaired.extend(b"null");
            return word.len();
        }
        self.repaired.push(byte);
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.open.push(byte),
            b'}' | b']' => {
                self.open.pop();
                if self.open == b"{[" {
                    self.last_finished = Some(self.repaired.len());
                }
            }
            _ => {}
        }
        1
    }

    fn end(mut self) -> (Vec<u8>, Vec<String>) {
        let mut remarks = Vec::new();
        if self.no_numbers > 0 {
            remarks.push(format!("{} of its figures are no numbers (NaN or Infinity) and left out", self.no_numbers));
        }
        if !self.open.is_empty()
            && let Some(length) = self.last_finished
        {
            self.repaired.truncate(length);
            self.repaired.extend(b"]}");
            remarks.push("it ends in the middle: only what was finished before is shown".to_owned());
        }
        (self.repaired, remarks)
    }
}
