//! Names and numbers of errnos, including those that only the kernel defines.

use nix::errno::Errno;

/// Largest errno of user space (`include/uapi/asm-generic/errno.h`): EHWPOISON.
pub(super) const LAST_OF_USER_SPACE: i32 = 133;

/// Errnos that the kernel defines for itself (`include/linux/errno.h`), with their meaning. Some drivers return them to user
/// space by mistake, and the C library has no names for them.
const OF_THE_KERNEL: [(i32, &str, &str); 19] = [
    (512, "ERESTARTSYS", "restart the system call"),
    (513, "ERESTARTNOINTR", "always restart the system call"),
    (514, "ERESTARTNOHAND", "restart the system call if no signal handler exists"),
    (515, "ENOIOCTLCMD", "no such ioctl"),
    (516, "ERESTART_RESTARTBLOCK", "restart the system call with other arguments"),
    (517, "EPROBE_DEFER", "probe the driver later"),
    (518, "EOPENSTALE", "stale file"),
    (519, "ENOPARAM", "parameter not supported"),
    (521, "EBADHANDLE", "invalid NFS file handle"),
    (522, "ENOTSYNC", "update synchronization mismatch"),
    (523, "EBADCOOKIE", "stale cookie"),
    (524, "ENOTSUPP", "operation not supported"),
    (525, "ETOOSMALL", "buffer or request too small"),
    (526, "ESERVERFAULT", "untranslatable error"),
    (527, "EBADTYPE", "type not supported by the server"),
    (528, "EJUKEBOX", "request started, but will not complete before the timeout"),
    (529, "EIOCBQUEUED", "request queued"),
    (530, "ERECALLCONFLICT", "conflict with a recalled state"),
    (531, "ENOGRACE", "not in the grace period"),
];

/// `ENOTSUPP`. It differs from EOPNOTSUPP (95), which has the second name ENOTSUP.
pub(super) const ENOTSUPP: i32 = 524;

/// The name of an errno: `EINVAL` for 22, `ENOTSUPP` for 524; `None` for a number without a name.
pub fn errno_name(errno: i32) -> Option<String> {
    if let Some((_, name, _)) = of_the_kernel(errno) {
        return Some((*name).to_owned());
    }
    (1..=LAST_OF_USER_SPACE)
        .contains(&errno)
        .then(|| Errno::from_raw(errno))
        .filter(|errno| *errno != Errno::UnknownErrno)
        .map(|errno| format!("{errno:?}"))
}

/// The number of an errno, from its name (`EINVAL`, in either case) or number (`22`, `-22`, `0x16`); `None` for other text.
pub fn parse_errno(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return number.checked_abs().filter(|number| *number > 0);
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return i32::from_str_radix(digits, 16).ok().filter(|number| *number > 0);
    }
    let name = text.to_ascii_uppercase();
    let alias = match name.as_str() {
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        name => name,
    };
    let named = |errno: &i32| errno_name(*errno).as_deref() == Some(alias);
    (1..=LAST_OF_USER_SPACE).chain(OF_THE_KERNEL.iter().map(|row| row.0)).find(named)
}

/// An errno with its meaning: `EXDEV (Invalid cross-device link)`.
pub(super) fn described(errno: i32) -> String {
    match (of_the_kernel(errno), errno_name(errno)) {
        (Some((_, name, meaning)), _) => format!("{name} ({errno}, an errno of the kernel itself: {meaning})"),
        (None, Some(name)) => format!("{name} ({})", Errno::from_raw(errno).desc()),
        (None, None) => format!("errno {errno}"),
    }
}

fn of_the_kernel(errno: i32) -> Option<&'static (i32, &'static str, &'static str)> {
    OF_THE_KERNEL.iter().find(|row| row.0 == errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_an_errno_by_name_and_by_number() {
        for (text, errno) in [
            ("EINVAL", 22),
            ("einval", 22),
            ("-22", 22),
            ("0x16", 22),
            ("-0X5f", 95),
            ("ENOTSUPP", ENOTSUPP),
            ("524", ENOTSUPP),
            ("ENOTSUP", 95),
            ("EOPNOTSUPP", 95),
            ("EWOULDBLOCK", 11),
            ("EHWPOISON", 133),
        ] {
            assert_eq!(parse_errno(text), Some(errno), "{text}");
        }
        for text in ["", "E", "UNKNOWNERRNO", "0", "-2147483648", "0x", "0x0", "0x-16", "0xffffffea", "EINVAL ENODEV"] {
            assert_eq!(parse_errno(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_parses_to_its_number() {
        let named = (-600..600).filter_map(|errno| Some((errno, errno_name(errno)?)));
        for (errno, name) in named {
            assert_eq!(parse_errno(&name), Some(errno), "{name}");
            assert!(described(errno).starts_with(&name));
        }
        assert_eq!(described(-7), "errno -7");
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in ".{0,20}") {
            let _ = parse_errno(&text);
        }
    }
}
