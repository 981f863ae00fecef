//! One connection between two cores of two nodes, without the socket: who is there, proof that both know the cell's key, batches in order,
//! heartbeats. What it carries are the batches of a [`super::link::Link`].
//!
//! Frames: `length u32` of what follows, `kind u8`, body. First a hello each way, then a proof each way, an HMAC-SHA-256 over both hellos
//! under the cell's key, so that nobody is believed who does not know it and nothing of an older conversation is worth anything. Only then
//! is anything read that is longer than a hello. Fail-stop: at the first fault the connection is closed, and the link over it breaks.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::codec::{Broken, Field, Reader};
use super::link::{Batch, Handled};
use super::warrant::{Names, Unwarranted, Warrant};
use super::{VERSION, VERSION_MIN};
use crate::ids::{NodeId, Peer, Roles};
use crate::limits::{LINK_BEAT, LINK_FRAME_BYTES_MAX, LINK_GREETING_MAX, LINK_SILENCE_MAX};
use crate::time::Mono;

/// What every core of a cell knows.
#[derive(Clone)]
pub struct CellKey(pub [u8; 32]);

impl std::fmt::Debug for CellKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CellKey(..)")
    }
}

/// Who speaks: one core of one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub cell: String,
    pub node: NodeId,
    /// Drawn at each start of the process.
    pub incarnation: u64,
    /// What the node does.
    pub roles: Roles,
    /// The core, or `Peer::CONTROL_CORE`.
    pub core: u8,
    /// Data cores of the node.
    pub cores: u8,
    /// The newest ring that it knows.
    pub ring_epoch: u64,
}

/// What came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    /// The other side is who it says: batches may be sent. `version`: the newest that both speak.
    Up {
        other: Identity,
        version: u16,
    },
    Batch(Batch),
}

/// Why the connection is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No node speaks here, or one whose bytes make no sense.
    Broken,
    /// Versions from the first to the second, and we speak none of them.
    Version(u16, u16),
    /// A node of another cell.
    Cell(String),
    /// It does not know the cell's key.
    Key,
    /// It says more of itself than its certificate does.
    Unwarranted(Unwarranted),
    /// It speaks TLS, and this side has no certificate.
    Secured,
    /// It did not prove who it is in time.
    Slow,
    /// It speaks to itself.
    Ourselves,
    /// Another process runs under the same number, and was met later.
    Twin(NodeId),
    /// A frame that is longer than any of ours.
    TooLong(u32),
    /// Batches are missing or doubled: no TCP does that, but a proxy may.
    Sequence { expected: u64, got: u64 },
    /// Nothing was heard for so long.
    Silent(Duration),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken => f.write_str("it does not speak as a node does"),
            Self::Version(min, max) => {
                write!(f, "it speaks versions {min} to {max}, and we {VERSION_MIN} to {VERSION}")
            }
            Self::Cell(name) => write!(f, "it is of cell {name:?}"),
            Self::Key => f.write_str("it does not know the cell's key"),
            Self::Unwarranted(why) => why.fmt(f),
            Self::Secured => {
                f.write_str("it speaks TLS, and this node has no certificate (--tls-cert)")
            }
            Self::Slow => {
                write!(f, "it did not prove who it is within {LINK_GREETING_MAX:?}")
            }
            Self::Ourselves => f.write_str("it is ourselves"),
            Self::Twin(node) => write!(
                f,
                "two processes run as node {}, and one ends: each node needs a number of its own (--id), and runs once",
                node.0
            ),
            Self::TooLong(len) => write!(f, "a frame of {len} bytes"),
            Self::Sequence { expected, got } => write!(f, "batch {got} instead of {expected}"),
            Self::Silent(age) => write!(f, "silent for {:.1} s", age.as_secs_f64()),
        }
    }
}

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

const MAGIC: [u8; 8] = *b"CAMPLINK";
/// Longer than any hello: nothing longer is read before the proof.
const HELLO_BYTES_MAX: u32 = 512;
/// How a record of TLS begins, an alert or a handshake: a frame with such a length is longer than any hello (RFC 8446 §5.1).
const TLS_KINDS: [u8; 2] = [0x15, 0x16];
const TLS_MAJOR: u8 = 3;
const NONCE_BYTES: usize = 32;

const HELLO: u8 = 1;
const PROOF: u8 = 2;
const BATCH: u8 = 3;
const BEAT: u8 = 4;
/// The last word to a twin. Who does not know of twins takes it for a broken frame, and goes as well.
const TWIN: u8 = 5;

/// Which side began. Each proves something else, so that nobody can send the other's proof back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Side {
    Dialed = 1,
    Answered = 2,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// Our hello is out.
    Greeting,
    /// Theirs came, and our proof is out.
    Proving {
        other: Identity,
        version: u16,
        hello: Vec<u8>,
    },
    Up,
}

/// Per connection. The driver writes `outgoing`, gives what comes to `receive`, and calls `tick` by the deadline.
#[derive(Debug)]
pub struct Stream {
    us: Identity,
    key: CellKey,
    nonce: [u8; NONCE_BYTES],
    side: Side,
    /// The core that was dialed, or that dialed.
    other_core: u8,
    /// What its certificate says of the other side; none on a plain connection.
    vouched: Option<(Warrant, Arc<Names>)>,
    phase: Phase,
    /// Our own, without its length.
    hello: Vec<u8>,
    /// Waits to be written.
    pub outgoing: Vec<u8>,
    /// The beginning of a frame.
    partial: Vec<u8>,
    sent: u64,
    received: u64,
    began_at: Mono,
    heard_at: Mono,
    beat_at: Mono,
}

impl Stream {
    /// From the core that `us` names to core `to` of whoever answers. `nonce`: random, never used before.
    pub fn dial(us: Identity, to: u8, key: CellKey, nonce: [u8; NONCE_BYTES], now: Mono) -> Self {
        let mut stream = Self::new(us, key, nonce, Side::Dialed, now);
        stream.other_core = to;
        stream.greet();
        stream
    }

    /// For whoever dialed: which core of ours is meant, its hello says, and `us` has it from then on.
    pub fn answer(us: Identity, key: CellKey, nonce: [u8; NONCE_BYTES], now: Mono) -> Self {
        Self::new(us, key, nonce, Side::Answered, now)
    }

    fn new(us: Identity, key: CellKey, nonce: [u8; NONCE_BYTES], side: Side, now: Mono) -> Self {
        Self {
            us,
            key,
            nonce,
            side,
            other_core: 0,
            vouched: None,
            phase: Phase::Greeting,
            hello: Vec::new(),
            outgoing: Vec::new(),
            partial: Vec::new(),
            sent: 0,
            received: 0,
            began_at: now,
            heard_at: now,
            beat_at: now + LINK_BEAT,
        }
    }

    fn greet(&mut self) {
        let us = &self.us;
        let mut hello = vec![HELLO];
        hello.extend_from_slice(&MAGIC);
        VERSION_MIN.write(&mut hello);
        VERSION.write(&mut hello);
        hello.extend_from_slice(&self.nonce);
        us.cell.as_str().write(&mut hello);
        us.node.write(&mut hello);
        us.incarnation.write(&mut hello);
        us.roles.0.write(&mut hello);
        us.core.write(&mut hello);
        us.cores.write(&mut hello);
        us.ring_epoch.write(&mut hello);
        self.other_core.write(&mut hello);
        frame(&mut self.outgoing, |to| to.extend_from_slice(&hello));
        self.hello = hello;
    }

    /// The other side showed this certificate, and `names` are the ring's: it is believed no more than that. Before anything is received.
    pub fn vouch(&mut self, warrant: Warrant, names: Arc<Names>) {
        assert!(self.phase == Phase::Greeting, "nothing was believed before");
        self.vouched = Some((warrant, names));
    }

    /// Who we are to the other side.
    pub fn us(&self) -> &Identity {
        &self.us
    }

    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Only while it is up.
    pub fn send(&mut self, batch: &Batch) {
        assert!(self.is_up(), "nothing is said to a stranger");
        self.sent += 1;
        let number = self.sent;
        frame(&mut self.outgoing, |to| {
            BATCH.write(to);
            number.write(to);
            batch.life.write(to);
            batch.is_hello.write(to);
            batch.handled.messages.write(to);
            batch.handled.bytes.write(to);
            batch.messages.write(to);
            batch.bytes.as_slice().write(to);
        });
    }

    /// Tells the other side that it is a twin. Only while it is up, and nothing after that.
    pub fn disown(&mut self) {
        assert!(self.is_up(), "nothing is said to a stranger");
        frame(&mut self.outgoing, |to| TWIN.write(to));
    }

    /// Whether the other side began.
    pub fn is_answer(&self) -> bool {
        self.side == Side::Answered
    }

    /// Bytes of the other side, cut anywhere.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn receive(&mut self, now: Mono, bytes: &[u8], got: &mut Vec<Got>) -> Result<(), Fault> {
        self.heard_at = now;
        self.partial.extend_from_slice(bytes);
        let mut inbox = std::mem::take(&mut self.partial);
        let mut rest = inbox.as_slice();
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = u32::from_le_bytes(*len);
            let len_max = if self.is_up() { LINK_FRAME_BYTES_MAX } else { HELLO_BYTES_MAX };
            if len > len_max {
                let [kind, major, ..] = len.to_le_bytes();
                let is_tls = TLS_KINDS.contains(&kind) && major == TLS_MAJOR && !self.is_up();
                return Err(if is_tls { Fault::Secured } else { Fault::TooLong(len) });
            }
            let Some((body, after)) = after.split_at_checked(len as usize) else { break };
            self.frame(body, got)?;
            rest = after;
        }
        // A long frame comes in many pieces, and is not copied for each.
        let done = inbox.len() - rest.len();
        inbox.drain(..done);
        self.partial = inbox;
        Ok(())
    }

    fn frame(&mut self, body: &[u8], got: &mut Vec<Got>) -> Result<(), Fault> {
        let mut from = Reader::new(body);
        match (u8::read(&mut from)?, &self.phase) {
            (HELLO, Phase::Greeting) => self.greeted(body, from),
            (PROOF, Phase::Proving { .. }) => self.proved(from.rest(), got),
            (BATCH, Phase::Up) => {
                let number = u64::read(&mut from)?;
                let expected = self.received + 1;
                if number != expected {
                    return Err(Fault::Sequence { expected, got: number });
                }
                self.received = number;
                let (life, is_hello) = (u32::read(&mut from)?, bool::read(&mut from)?);
                let handled =
                    Handled { messages: u32::read(&mut from)?, bytes: u64::read(&mut from)? };
                let messages = u32::read(&mut from)?;
                let bytes = <&[u8]>::read(&mut from)?.to_vec();
                got.push(Got::Batch(Batch { life, is_hello, handled, messages, bytes }));
                if from.is_empty() { Ok(()) } else { Err(Fault::Broken) }
            }
            (BEAT, Phase::Up) => {
                let (sent, received) = (u64::read(&mut from)?, u64::read(&mut from)?);
                if sent != self.received {
                    return Err(Fault::Sequence { expected: sent, got: self.received });
                }
                if received > self.sent || !from.is_empty() {
                    return Err(Fault::Broken);
                }
                Ok(())
            }
            (TWIN, Phase::Up) => Err(Fault::Twin(self.us.node)),
            _ => Err(Fault::Broken),
        }
    }

    fn greeted(&mut self, body: &[u8], mut from: Reader<'_>) -> Result<(), Fault> {
        if from.array::<8>()? != MAGIC {
            return Err(Fault::Broken);
        }
        let (min, max) = (u16::read(&mut from)?, u16::read(&mut from)?);
        if min > VERSION || max < VERSION_MIN {
            // What follows may have another shape.
            return Err(Fault::Version(min, max));
        }
        let _nonce = from.take(NONCE_BYTES)?;
        let cell = <&str>::read(&mut from)?.to_string();
        let (node, incarnation) = (NodeId::read(&mut from)?, u64::read(&mut from)?);
        let roles = Roles(u8::read(&mut from)?);
        let (core, cores) = (u8::read(&mut from)?, u8::read(&mut from)?);
        let (ring_epoch, to) = (u64::read(&mut from)?, u8::read(&mut from)?);
        // A later version may say more in its hello; ours says this much.
        let other = Identity { cell, node, incarnation, roles, core, cores, ring_epoch };
        if other.cell != self.us.cell {
            return Err(Fault::Cell(other.cell));
        }
        if (other.node, other.incarnation) == (self.us.node, self.us.incarnation) {
            return Err(Fault::Ourselves);
        }
        if let Some((warrant, names)) = &self.vouched {
            warrant.allows(&other, names).map_err(Fault::Unwarranted)?;
        }
        let is_core = |core: u8, cores: u8| core < cores || core == Peer::CONTROL_CORE;
        match self.side {
            Side::Dialed if other.core != self.other_core || to != self.us.core => {
                return Err(Fault::Broken);
            }
            Side::Answered if !is_core(to, self.us.cores) || !is_core(other.core, other.cores) => {
                return Err(Fault::Broken);
            }
            Side::Dialed => {}
            Side::Answered => {
                (self.us.core, self.other_core) = (to, other.core);
                self.greet();
            }
        }
        let proof = self.proof(self.side, &self.hello, body).finalize().into_bytes();
        frame(&mut self.outgoing, |to| {
            PROOF.write(to);
            to.extend_from_slice(&proof);
        });
        self.phase = Phase::Proving { other, version: max.min(VERSION), hello: body.to_vec() };
        Ok(())
    }

    fn proved(&mut self, proof: &[u8], got: &mut Vec<Got>) -> Result<(), Fault> {
        let Phase::Proving { other, version, hello } =
            std::mem::replace(&mut self.phase, Phase::Up)
        else {
            unreachable!("the caller looked");
        };
        let theirs = match self.side {
            Side::Dialed => Side::Answered,
            Side::Answered => Side::Dialed,
        };
        if self.proof(theirs, &hello, &self.hello).verify_slice(proof).is_err() {
            self.phase = Phase::Greeting;
            return Err(Fault::Key);
        }
        got.push(Got::Up { other, version });
        Ok(())
    }

    /// Of a side that said `own` and heard `other`.
    fn proof(&self, side: Side, own: &[u8], other: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("any length will do");
        mac.update(&[side as u8]);
        for hello in [own, other] {
            mac.update(&(hello.len() as u32).to_le_bytes());
            mac.update(hello);
        }
        mac
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Mono {
        let due = self.beat_at.min(self.heard_at + LINK_SILENCE_MAX);
        if self.is_up() { due } else { due.min(self.began_at + LINK_GREETING_MAX) }
    }

    /// Says a beat when one is due.
    ///
    /// # Errors
    /// Nothing was heard for too long, or not enough to know who is there.
    pub fn tick(&mut self, now: Mono) -> Result<(), Fault> {
        let silent = now.since(self.heard_at);
        if silent >= LINK_SILENCE_MAX {
            return Err(Fault::Silent(silent));
        }
        if !self.is_up() && now.since(self.began_at) >= LINK_GREETING_MAX {
            return Err(Fault::Slow);
        }
        if now >= self.beat_at {
            self.beat_at = now + LINK_BEAT;
            if self.is_up() {
                let (sent, received) = (self.sent, self.received);
                frame(&mut self.outgoing, |to| {
                    BEAT.write(to);
                    sent.write(to);
                    received.write(to);
                });
            }
        }
        Ok(())
    }
}

/// Whether somebody who was to speak TLS greets as a node does without it.
pub fn is_greeting(bytes: &[u8]) -> bool {
    bytes.get(4) == Some(&HELLO) && bytes.get(5..13) == Some(&MAGIC)
}

/// Writes a frame with its length before it.
fn frame(to: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = to.len();
    to.extend_from_slice(&[0; 4]);
    body(to);
    let len = u32::try_from(to.len() - at - 4).expect("a batch is bounded");
    to[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

#[cfg(test)]
mod tests;
