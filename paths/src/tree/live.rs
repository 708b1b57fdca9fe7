//! The running host. Its links are trusted, so the kernel resolves them.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use super::{FILE_LIMIT_BYTES, Node, Source, directory};

/// The root directory `/`.
pub(super) struct Live;

impl Source for Live {
    fn node(&self, path: &str) -> io::Result<Node> {
        directory::node(Path::new(&format!("/{path}")))
    }

    fn load(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        // sysfs reports a size of 4096 bytes for most files, whatever their content, so the size is not used.
        fs::File::open(format!("/{path}")).ok()?.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        directory::names(Path::new(&format!("/{path}")))
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let resolved = fs::canonicalize(format!("/{path}")).ok()?;
        Some(resolved.to_str()?.trim_start_matches('/').to_owned())
    }
}
