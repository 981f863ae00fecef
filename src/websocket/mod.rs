//! RFC 6455: bytes <-> messages. Pure; no compression, no extensions.
//!
//! - [`handshake::read`]: the request of an upgrade, once its last header arrived; [`handshake::accept`]: our answer
//! - [`Reader::next`]: client bytes, cut anywhere, to [`Event`]s; unmasks in place and copies only what is partial
//! - [`writer`]: server frames, never masked, never fragmented

pub mod close;
pub mod handshake;
mod mask;
mod partial;
mod reader;
mod utf8;
pub mod writer;

pub use partial::Bounds;
pub use reader::{Event, Reader, Violation};
