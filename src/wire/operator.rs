//! How an operator's call proves that it comes from somebody who knows the cell's key, and the answer that it comes from the cell. The key
//! itself never travels, and nothing that was overheard is worth anything: each call is proven over a challenge that is good once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// A key that is shorter than this can be guessed.
pub const KEY_BYTES_MIN: usize = 32;

/// Of a cell's key file, a secret for one use: whoever learns it knows nothing of the others. White space around the key does not count.
///
/// # Errors
/// A sentence, when the key is too short.
pub fn derived(file: &[u8], what: &str) -> Result<[u8; 32], String> {
    let key = file.trim_ascii();
    if key.len() < KEY_BYTES_MIN {
        return Err(format!("fewer than {KEY_BYTES_MIN} bytes"));
    }
    Ok(Sha256::new_with_prefix(what).chain_update([0]).chain_update(key).finalize().into())
}

/// The headers of a call: which challenge it is proven over, and the proof; of its answer: the proof.
pub const CHALLENGE: &str = "x-campanile-challenge";
pub const PROOF: &str = "x-campanile-proof";

/// What operators and webapps of a cell know.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

/// Who says something. Each proves something else, so that nothing can be sent back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Side {
    Operator = 1,
    Webapp = 2,
}

impl OperatorKey {
    /// Of a cell's key file.
    ///
    /// # Errors
    /// A sentence, when the key is too short.
    pub fn of(file: &[u8]) -> Result<Self, String> {
        derived(file, "operators").map(Self)
    }

    /// The proof that belongs to a body under a challenge, in Base64.
    pub fn proof(&self, side: Side, challenge: &str, body: &[u8]) -> String {
        STANDARD.encode(self.mac(side, challenge, body).finalize().into_bytes())
    }

    /// Whether a proof is the one, in a time that says nothing about where it differs.
    pub fn is_proven(&self, side: Side, challenge: &str, body: &[u8], proof: &str) -> bool {
        let proof = STANDARD.decode(proof);
        proof.is_ok_and(|proof| self.mac(side, challenge, body).verify_slice(&proof).is_ok())
    }

    fn mac(&self, side: Side, challenge: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length will do");
        mac.update(&[side as u8]);
        mac.update(&(challenge.len() as u64).to_le_bytes());
        mac.update(challenge.as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"  0123456789abcdef0123456789abcdef\n";

    #[test]
    fn a_proof_is_good_for_one_side_one_challenge_and_one_body() {
        let key = OperatorKey::of(FILE).expect("long enough");
        let proof = key.proof(Side::Operator, "c", b"body");
        assert_eq!(proof.len(), 44);
        assert!(key.is_proven(Side::Operator, "c", b"body", &proof));
        assert!(!key.is_proven(Side::Webapp, "c", b"body", &proof));
        assert!(!key.is_proven(Side::Operator, "cb", b"ody", &proof));
        assert!(!key.is_proven(Side::Operator, "d", b"body", &proof));
        assert!(!key.is_proven(Side::Operator, "c", b"bodies", &proof));
        let other = OperatorKey::of(b"another key of thirty-two bytes!!").expect("long enough");
        assert!(!other.is_proven(Side::Operator, "c", b"body", &proof));
        for wrong in ["", "zz", "0", &proof[4..], "é"] {
            assert!(!key.is_proven(Side::Operator, "c", b"body", wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_file_is_trimmed_and_long_enough() {
        assert_eq!(derived(FILE, "a"), derived(FILE.trim_ascii(), "a"));
        assert_ne!(derived(FILE, "a"), derived(FILE, "b"));
        assert!(derived(b"short", "a").is_err_and(|why| why.contains("32")));
    }
}
