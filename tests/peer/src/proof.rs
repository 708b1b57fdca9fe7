//! Nonces and proofs of the handshake.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

pub type Bytes = [u8; 32];

pub fn nonce() -> crate::Result<Bytes> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub fn text(bytes: &Bytes) -> String {
    STANDARD.encode(bytes)
}

pub fn bytes(text: &Value) -> Option<Bytes> {
    STANDARD.decode(text.as_str()?).ok()?.try_into().ok()
}

fn mac(token: &[u8], label: &[u8], passive: &Bytes, active: &Bytes) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token).expect("HMAC accepts keys of any length");
    [label, passive, active].into_iter().for_each(|part| mac.update(part));
    mac
}

pub fn make(token: &[u8], label: &[u8], passive: &Bytes, active: &Bytes) -> Bytes {
    mac(token, label, passive, active).finalize().into_bytes().into()
}

pub fn holds(token: &[u8], label: &[u8], passive: &Bytes, active: &Bytes, proof: &Bytes) -> bool {
    mac(token, label, passive, active).verify_slice(proof).is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_the_example_in_the_document() {
        let proof = super::make(b"0123456789abcdef", b"peerpath active", &[1; 32], &[2; 32]);
        assert_eq!(super::text(&proof), "zOOq7hf+5u39Q4Ign3bX1+btO4Pc1aVW6h1ErBdTJKs=");
    }
}
