//! Finds the errno in a message of a program: `Couldn't allocate MR with error=14`, `ibv_reg_mr: Invalid argument`.

use std::io;

use super::errno::{ENOTSUPP, LAST_OF_USER_SPACE, errno_name, parse_errno};

/// Number of bytes that are searched. A longer text is probably a log with several errors.
const MAX_BYTES: usize = 1024;

/// Words that precede the number of an errno.
const BEFORE_A_NUMBER: &[&str] = &["errno", "error", "err", "status", "ret", "rc", "code", "returned"];

/// The errno in a message of a program; `None` if it contains none. In this order: the name of an errno, the description that
/// the C library has for an errno, and a number that is negative or follows a word such as `errno` or `error`.
pub fn errno_in(text: &str) -> Option<i32> {
    let mut end = text.len().min(MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    parse_errno(text).or_else(|| name(text)).or_else(|| description(text)).or_else(|| number(text))
}

fn name(text: &str) -> Option<i32> {
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // The names of errnos are in capital letters, so "error" is not a name.
    words.find_map(|word| (word.starts_with('E') && word.len() > 2).then(|| parse_upper(word))?)
}

fn parse_upper(word: &str) -> Option<i32> {
    let is_name = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_name.then(|| parse_errno(word))?
}

fn number(text: &str) -> Option<i32> {
    let mut previous = "";
    for word in words(text) {
        // System calls return -1 for every error.
        if let Some(errno) = known(word).filter(|_| word != "-1")
            && (word.starts_with('-') || BEFORE_A_NUMBER.iter().any(|before| previous.eq_ignore_ascii_case(before)))
        {
            return Some(errno);
        }
        previous = word;
    }
    None
}

/// Words and numbers, with the sign of a number.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
        .map(|word| word.trim_end_matches('-'))
        .filter(|word| !word.is_empty())
}

/// The number of an errno that has a name.
fn known(word: &str) -> Option<i32> {
    let number: i32 = word.parse().ok()?;
    let errno = number.checked_abs()?;
    errno_name(errno).map(|_| errno)
}

/// The errno whose description (`strerror`) occurs in the text. The longest description wins, because "No such device" is also
/// the start of "No such device or address".
fn description(text: &str) -> Option<i32> {
    let text = text.to_ascii_lowercase();
    let matches = (1..=LAST_OF_USER_SPACE).filter_map(|errno| {
        errno_name(errno)?;
        let described = c_library(errno).to_ascii_lowercase();
        text.contains(&described).then_some((described.len(), errno))
    });
    // Of two errnos with the same description, return the lower one.
    matches
        .max_by_key(|(length, errno)| (*length, -*errno))
        .map(|(_, errno)| errno)
        .or_else(|| text.contains(&format!("unknown error {ENOTSUPP}")).then_some(ENOTSUPP))
}

/// The description of an errno by the C library (`strerror`).
fn c_library(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(description, _)| description.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_errno_in_the_text_of_a_program() {
        for (text, errno) in [
            ("Couldn't allocate MR with error=14", 14),
            ("Invalid argument", 22),
            ("ibv_reg_dmabuf_mr failed: Operation not supported", 95),
            ("failed to register: Unknown error 524", 524),
            ("NET/IB : Call to ibv_reg_mr_iova2 failed with error Bad address", 14),
            ("cuda_dmabuf: errno 524", 524),
            ("mlx5_cmd_out_err: CREATE_MKEY failed, err(-22)", 22),
            ("ioctl(VFIO_IOMMU_MAP_DMA) = -1 EFAULT (Bad address)", 14),
            ("vfio_container_dma_map(0x55, 0x3800, 0x1000, 0x7f) = -14 (Bad address)", 14),
            ("Error { code: 22, kind: InvalidInput, message: \"Invalid argument\" }", 22),
            ("Os { code: 1, message: \"Operation not permitted\" } (os error 1)", 1),
            ("Cannot allocate memory", 12),
            ("ENOTSUPP", 524),
            ("-22", 22),
        ] {
            assert_eq!(errno_in(text), Some(errno), "{text}");
        }
    }

    #[test]
    fn finds_no_errno_in_other_text() {
        for text in [
            "",
            "hello",
            "error",
            "ERROR",
            "Error at line 12 of 14",
            "mlx5_0 port 1",
            "took 22 ms",
            "EASY",
            "E2",
            "ioctl returned -1",
        ] {
            assert_eq!(errno_in(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in ".{0,2000}") {
            let _ = errno_in(&text);
        }
    }
}
