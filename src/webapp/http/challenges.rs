//! Challenges: what an operator's call is proven over. Given to whoever asks, and good once, for some seconds.
//!
//! A challenge names its moment and is signed, so that those which nobody uses need no memory; only those are kept that a proven call used,
//! until they are too old to be used again. A secret of the process signs them: after a restart none of before is worth anything.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::webapp::database::random_hex;

/// From the question to the call.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Challenges that were used within this time: more than people and their scripts ask for.
const USED_MAX: usize = 16_384;

/// Why a challenge is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Worthless {
    /// It is none of ours, too old, or was used.
    Void,
    /// Too many were used lately.
    Full,
}

/// Per process.
#[derive(Debug)]
pub(super) struct Challenges {
    secret: String,
    began: Instant,
    used: HashSet<String>,
    in_order: VecDeque<(Instant, String)>,
}

impl Challenges {
    pub(super) fn new() -> Self {
        Self {
            secret: random_hex(32),
            began: Instant::now(),
            used: HashSet::new(),
            in_order: VecDeque::new(),
        }
    }

    /// A new one.
    pub(super) fn give(&self, now: Instant) -> String {
        let moment = now.saturating_duration_since(self.began).as_millis();
        let text = format!("{moment:x}.{}", random_hex(16));
        let signature = STANDARD.encode(self.mac(&text).finalize().into_bytes());
        format!("{text}.{signature}")
    }

    /// Uses one up, for a call whose proof was found good.
    pub(super) fn take(&mut self, now: Instant, challenge: &str) -> Result<(), Worthless> {
        let (text, signature) = challenge.rsplit_once('.').ok_or(Worthless::Void)?;
        let signature = STANDARD.decode(signature).map_err(|_| Worthless::Void)?;
        self.mac(text).verify_slice(&signature).map_err(|_| Worthless::Void)?;
        let moment = text.split('.').next().and_then(|moment| u64::from_str_radix(moment, 16).ok());
        let given = self.began + Duration::from_millis(moment.ok_or(Worthless::Void)?);
        if now.saturating_duration_since(given) > GOOD_FOR {
            return Err(Worthless::Void);
        }
        while self.in_order.front().is_some_and(|(used, _)| *used + GOOD_FOR < now) {
            let (_, old) = self.in_order.pop_front().expect("just seen");
            self.used.remove(&old);
        }
        if self.used.contains(challenge) {
            return Err(Worthless::Void);
        }
        if self.used.len() >= USED_MAX {
            return Err(Worthless::Full);
        }
        self.used.insert(challenge.into());
        self.in_order.push_back((now, challenge.into()));
        Ok(())
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any length will do");
        mac.update(text.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_some_seconds() {
        let mut ours = Challenges::new();
        let now = ours.began + Duration::from_secs(7);
        let (one, two) = (ours.give(now), ours.give(now));
        assert_ne!(one, two);
        assert_eq!(ours.take(now, &one), Ok(()));
        assert_eq!(ours.take(now, &one), Err(Worthless::Void), "used");
        let late = now + GOOD_FOR + Duration::from_secs(1);
        assert_eq!(ours.take(late, &two), Err(Worthless::Void), "old");
        assert_eq!(ours.take(late, &one), Err(Worthless::Void), "used, and old");
        let next = ours.give(late);
        assert_eq!(ours.take(late, &next), Ok(()));
        assert_eq!(ours.used.len(), 1, "old ones are forgotten");
        let other = Challenges::new().give(Instant::now());
        for wrong in ["", ".", "x.y.z", &other, &next.replace('.', "0."), &format!("0{next}")] {
            assert_eq!(ours.take(late, wrong), Err(Worthless::Void), "{wrong}");
        }
    }
}
