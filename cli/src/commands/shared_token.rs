//! The token of `serve` and of `run --peer`.

use std::path::Path;

use peerpath_bench::failure::Failure;
use peerpath_bench::peer::token::{self, Token};

/// Reads the token from `file`, or else from `PEERPATH_TOKEN`. Warns if other users can read the file.
pub(super) fn find(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    if let Some((file, bits)) = file.and_then(|file| Some((file.display(), Token::exposed_mode(file)?))) {
        let who = match (bits & 0o040 != 0, bits & 0o004 != 0) {
            (true, false) => "its group",
            _ => "every user of this host",
        };
        log::warn!("{who} can read the token in {file}. Run `chmod 600 {file}`, and consider a new token.");
    }
    Token::find(file, std::env::var_os(token::VARIABLE))
}
