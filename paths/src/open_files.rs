//! Recognizes errors that a limit of open files causes. They can occur at any step.

use std::error::Error;
use std::io;

use nix::errno::Errno;

use crate::Explanation;
use crate::explain::common;

/// The explanation of a limit of open files, if that limit caused the error or one of its sources; `None` for other errors.
///
/// Use this explanation in place of the error's own, whose remedy does not raise the limit.
pub fn limit_of_open_files(error: &(dyn Error + 'static)) -> Option<Explanation> {
    let mut errors = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    errors.find_map(errno).filter(|errno| [Errno::EMFILE as i32, Errno::ENFILE as i32].contains(errno)).and_then(common)
}

fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let of_io = || error.downcast_ref::<io::Error>()?.raw_os_error();
    let known = || error.downcast_ref::<Errno>().map(|errno| *errno as i32);
    of_io().or_else(known).or_else(|| of_loader(&error.to_string()))
}

/// The errno in an error of the dynamic loader, which reports only a text that ends with the description of the errno.
fn of_loader(text: &str) -> Option<i32> {
    let limits = [Errno::EMFILE, Errno::ENFILE];
    limits.into_iter().find(|errno| text.ends_with(errno.desc())).map(|errno| errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn finds_the_limit_below_other_errors() {
        let of = |errno: Errno| limit_of_open_files(&Outer(errno.into()));
        assert!(of(Errno::EMFILE).unwrap().remedy.contains("ulimit -n"));
        assert!(of(Errno::ENFILE).unwrap().remedy.contains("fs.file-max"));
        assert_eq!(of(Errno::ENOENT), None);
        assert!(limit_of_open_files(&Errno::EMFILE).is_some());
        let loader = io::Error::other("libcuda.so.1: cannot open shared object file: Too many open files");
        assert!(limit_of_open_files(&loader).unwrap().remedy.contains("ulimit -n"));
    }
}
