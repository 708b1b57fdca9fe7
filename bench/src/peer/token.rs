//! The shared token, and proofs that client and server know it. The token itself is never sent.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use peerpath_paths::input_file;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::failure::Failure;

/// Environment variable that contains the token.
pub const VARIABLE: &str = "PEERPATH_TOKEN";
/// Minimum length of a token. An attacker could guess a shorter token from a recorded proof.
const SHORTEST_BYTES: usize = 16;
const LONGEST_BYTES: usize = 4096;
/// Maximum length of a token file, including white space around the token.
const LONGEST_FILE_BYTES: u64 = 64 << 10;
/// Length of a nonce and of a proof, in bytes.
const NONCE_BYTES: usize = 32;

/// The shared secret. The program never prints, logs or saves it.
#[derive(Clone)]
pub struct Token(Vec<u8>);

/// Random bytes for one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; NONCE_BYTES]);

/// HMAC-SHA256 with the token as key. The message consists of the label of the proving side and both nonces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Proof([u8; NONCE_BYTES]);

/// The side that proves. The proofs of the two sides differ, so an attacker cannot send a proof back to the side that it came
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Connects to the server and posts transfers.
    Client,
    /// Listens for clients and serves memory.
    Server,
}

impl Side {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Client => b"peerpath active",
            Self::Server => b"peerpath passive",
        }
    }
}

impl Token {
    /// Reads the token from `file`, or else from the environment variable. `None` if neither is given.
    ///
    /// # Errors
    /// Reading the file fails, or the token is too short or too long.
    pub fn find(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<Self>, Failure> {
        let (from, bytes) = match (file, variable) {
            (Some(path), _) => {
                let from = path.display().to_string();
                let bytes = input_file::read(path, LONGEST_FILE_BYTES).map_err(|error| {
                    Failure::unreadable(
                        format!("cannot read the token from {from}"),
                        &error,
                        error.remedy(
                            path,
                            "Name a file that contains the token of the server: the server printed it, or read it from its own file.",
                        ),
                    )
                })?;
                (from, bytes)
            }
            (None, Some(value)) => (VARIABLE.to_owned(), std::os::unix::ffi::OsStringExt::into_vec(value)),
            (None, None) => return Ok(None),
        };
        let token = bytes.trim_ascii();
        if !(SHORTEST_BYTES..=LONGEST_BYTES).contains(&token.len()) {
            return Err(Failure::bad_input(
                format!("cannot use the token in {from}: its length is {} bytes", token.len()),
                "A short token can be guessed.",
                format!(
                    "Use a token of {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, for example from `openssl rand -hex 32`."
                ),
            ));
        }
        Ok(Some(Self(token.to_vec())))
    }

    /// The permission bits of a token file with which other users can read it, e.g. 0o044. `None` if no other user can, or if it
    /// is not a regular file.
    pub fn exposed_mode(file: &Path) -> Option<u32> {
        let metadata = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
        Some(metadata.permissions().mode() & 0o044).filter(|bits| *bits != 0)
    }

    /// Creates a random token. Returns the token and its text.
    ///
    /// # Errors
    /// `getrandom` fails.
    pub fn random() -> Result<(Self, String), getrandom::Error> {
        let text = URL_SAFE_NO_PAD.encode(random()?);
        Ok((Self(text.clone().into_bytes()), text))
    }

    fn mac(&self, side: Side, server: &Nonce, client: &Nonce) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(side.label());
        mac.update(&server.0);
        mac.update(&client.0);
        mac
    }

    /// Computes the proof that `side` knows the token.
    pub fn prove(&self, side: Side, server: &Nonce, client: &Nonce) -> Proof {
        Proof(self.mac(side, server, client).finalize().into_bytes().into())
    }

    /// Whether the proof of `side` is correct. The comparison takes constant time.
    pub fn is_proved(&self, side: Side, server: &Nonce, client: &Nonce, proof: &Proof) -> bool {
        self.mac(side, server, client).verify_slice(&proof.0).is_ok()
    }
}

impl Nonce {
    /// Creates a nonce of random bytes.
    ///
    /// # Errors
    /// `getrandom` fails.
    pub fn random() -> Result<Self, getrandom::Error> {
        random().map(Self)
    }
}

fn random() -> Result<[u8; NONCE_BYTES], getrandom::Error> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn decode(text: &str) -> Result<[u8; NONCE_BYTES], String> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("not {NONCE_BYTES} bytes in base64"))
}

impl TryFrom<String> for Nonce {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        decode(&text).map(Self)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        STANDARD.encode(nonce.0)
    }
}

impl TryFrom<String> for Proof {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        decode(&text).map(Self)
    }
}

impl From<Proof> for String {
    fn from(proof: Proof) -> Self {
        STANDARD.encode(proof.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::Severity;

    fn token(text: &str) -> Token {
        Token::find(None, Some(text.into())).unwrap().unwrap()
    }

    #[test]
    fn a_proof_depends_on_token_side_and_nonces() {
        let ours = token("sixteen bytes or more");
        let (server, client) = (Nonce::random().unwrap(), Nonce::random().unwrap());
        let proof = ours.prove(Side::Client, &server, &client);
        assert!(ours.is_proved(Side::Client, &server, &client, &proof));
        assert!(!ours.is_proved(Side::Server, &server, &client, &proof));
        assert!(!ours.is_proved(Side::Client, &client, &server, &proof));
        assert!(!ours.is_proved(Side::Client, &server, &Nonce::random().unwrap(), &proof));
        assert!(!token("sixteen bytes or mere").is_proved(Side::Client, &server, &client, &proof));
        let mut wrong = proof;
        wrong.0[31] ^= 1;
        assert!(!ours.is_proved(Side::Client, &server, &client, &wrong));
    }

    #[test]
    fn a_proof_is_as_specified() {
        // Expected value from Python's hmac module: the key is the token, the message is the label and both nonces.
        let proof = token("0123456789abcdef").prove(Side::Client, &Nonce([1; 32]), &Nonce([2; 32]));
        assert_eq!(String::from(proof), "zOOq7hf+5u39Q4Ign3bX1+btO4Pc1aVW6h1ErBdTJKs=");
    }

    #[test]
    fn the_file_has_precedence_and_line_ends_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  a token of one file\r\n").unwrap();
        let found = Token::find(Some(&path), Some("the token of the environment".into())).unwrap().unwrap();
        assert_eq!(found.0, b"a token of one file");
        assert!(Token::find(None, None).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_exposed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "the token of this test").unwrap();
        for (mode, exposed) in
            [(0o600, None), (0o400, None), (0o640, Some(0o040)), (0o604, Some(0o004)), (0o644, Some(0o044))]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Token::exposed_mode(&path), exposed, "{mode:o}");
        }
        assert_eq!(Token::exposed_mode(Path::new("/dev/null")), None);
        assert_eq!(Token::exposed_mode(Path::new("/nonexistent")), None);
    }

    #[test]
    fn rejects_tokens_of_wrong_length() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Token::find(Some(&folder.path().join("none")), None).err().unwrap().severity, Severity::BadInput);
        for text in ["", "short", "  fifteen bytes.  ", &"x".repeat(4097)] {
            assert_eq!(Token::find(None, Some(text.into())).err().unwrap().severity, Severity::BadInput, "{text:?}");
        }
    }

    #[test]
    fn random_tokens_differ_and_survive_as_text() {
        let ((_, one), (two, text)) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, text);
        assert_eq!(token(&text).0, two.0);
    }

    #[test]
    fn a_nonce_is_32_bytes_in_base64() {
        for text in ["", "AAAA", "not base64!", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            Nonce::try_from(text.to_owned()).unwrap_err();
        }
        let nonce = Nonce::random().unwrap();
        assert_eq!(Nonce::try_from(String::from(nonce.clone())).unwrap(), nonce);
    }
}
