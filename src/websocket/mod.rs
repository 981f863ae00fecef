//! RFC 6455: bytes <-> messages. Pure.
