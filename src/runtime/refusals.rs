//! Who was refused at our links and why, counted by cause: `campanile_links_refused_total`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ops::metrics::Sample;
use crate::wire::stream::Fault;

/// What kind of stranger it was. The label of the metric is its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Refusal {
    /// It speaks without TLS, and this node has a certificate.
    Plain,
    /// It speaks TLS, and this node has no certificate.
    Secured,
    /// Bytes that are no handshake, or a handshake that ended half way.
    Handshake,
    /// Its certificate is of nobody that we know, or there is none.
    Certificate,
    /// Its certificate is not valid now.
    Expired,
    /// It is not the node that its certificate is of, or has another role.
    Warrant,
    /// It does not know the cell's key.
    Key,
    /// Its hello is of another cell or version, or none.
    Hello,
    /// Another process runs under its number.
    Twin,
    /// It took too long.
    Slow,
    /// Too many are not proven yet.
    Full,
}

impl Refusal {
    const ALL: [Self; 11] = [
        Self::Plain,
        Self::Secured,
        Self::Handshake,
        Self::Certificate,
        Self::Expired,
        Self::Warrant,
        Self::Key,
        Self::Hello,
        Self::Twin,
        Self::Slow,
        Self::Full,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Secured => "tls",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::Expired => "expired",
            Self::Warrant => "warrant",
            Self::Key => "key",
            Self::Hello => "hello",
            Self::Twin => "twin",
            Self::Slow => "slow",
            Self::Full => "full",
        }
    }

    /// Of a connection that was not up yet.
    pub(super) fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Secured => Self::Secured,
            Fault::Unwarranted(_) => Self::Warrant,
            Fault::Key => Self::Key,
            Fault::Twin(_) => Self::Twin,
            Fault::Slow | Fault::Silent(_) => Self::Slow,
            Fault::Broken
            | Fault::Version(..)
            | Fault::Cell(_)
            | Fault::Ourselves
            | Fault::TooLong(_)
            | Fault::Sequence { .. } => Self::Hello,
        }
    }
}

/// Both whom we dialed and who dialed us. One for the node; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Refusals(Arc<[AtomicU64; Refusal::ALL.len()]>);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }
    pub(super) fn count(&self, why: Refusal) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn samples(&self) -> impl Iterator<Item = Sample> {
        Refusal::ALL.into_iter().map(|why| {
            let count = self.0[why as usize].load(Ordering::Relaxed);
            Sample::total("links_refused", vec![("why", why.word().into())], count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_place_and_a_word_of_its_own() {
        let refusals = Refusals::new();
        for (at, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at);
            assert!(Refusal::ALL.iter().filter(|other| other.word() == why.word()).count() == 1);
        }
        refusals.count(Refusal::Expired);
        let expired = Sample::total("links_refused", vec![("why", "expired".into())], 1);
        assert_eq!(refusals.samples().filter(|sample| *sample == expired).count(), 1);
    }
}
