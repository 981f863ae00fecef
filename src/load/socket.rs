//! One client's websocket: it opens, reads whole messages out of what arrives, and writes.
//!
//! The handshake is checked by the crate that everybody uses. Frames of a server are not masked, and ours are masked with zeros, which is
//! a mask like any other (RFC 6455 5.3) and costs nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};

use socket2::{Domain, Protocol, SockAddr, Socket as Plain, Type};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::doors::Place;

/// What is wrong with a connection, for the report.
pub(super) type Fault = String;

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    state: State,
    /// A message, or an answer to the handshake, that is not whole yet.
    rest: Vec<u8>,
    /// Fragments of a message before its last one.
    fragments: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

#[derive(Debug)]
enum State {
    /// The answer that is expected to the handshake.
    Opening(String),
    Open,
}

/// What one reading gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Got {
    /// There may be more.
    Some,
    /// Nothing more now.
    All,
    /// The server closed, with this code if it said one.
    End(Option<u16>),
}

/// An answer to a handshake, and a message of a server.
const HANDSHAKE_BYTES_MAX: usize = 16 << 10;
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What waits to be written: then the server does not read.
const OUT_BYTES_MAX: usize = 64 << 20;
/// Connections from one source address to one port: well below the range of ports.
const PER_SOURCE: u32 = 10_000;

/// The kernel's buffer of a slow reader: it hides nothing.
const SLOW_BUFFER_BYTES: usize = 4 << 10;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Instead of a length: it follows in 16 or 64 bits.
const LEN_16: u8 = 0x7e;
const LEN_64: u8 = 0x7f;

impl Socket {
    /// Begins to connect. To loopback, connections take their sources from all of 127.0.0.0/8.
    pub(super) fn open(place: &Place, conn: u32, is_slow: bool) -> Result<Self, Fault> {
        let fault = |error: std::io::Error| format!("{}:{}: {error}", place.host, place.port);
        let mut addresses = (place.host.as_str(), place.port).to_socket_addrs().map_err(fault)?;
        let to = addresses.next().ok_or_else(|| format!("{}: no address", place.host))?;
        let plain = Plain::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            .map_err(fault)?;
        plain.set_nonblocking(true).map_err(fault)?;
        plain.set_tcp_nodelay(true).map_err(fault)?;
        if is_slow {
            plain.set_recv_buffer_size(SLOW_BUFFER_BYTES).map_err(fault)?;
        }
        if to.ip().is_loopback() && to.is_ipv4() {
            let [.., third, fourth] = (conn / PER_SOURCE + 2).to_be_bytes();
            let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, third, fourth)), 0);
            plain.bind(&SockAddr::from(source)).map_err(fault)?;
        }
        match plain.connect(&SockAddr::from(to)) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(fault(error));
            }
            _ => {}
        }
        let key = generate_key();
        let Place { host, port, path } = place;
        let hello = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        Ok(Self {
            stream: plain.into(),
            state: State::Opening(derive_accept_key(key.as_bytes())),
            rest: Vec::new(),
            fragments: Vec::new(),
            out: hello.into_bytes(),
            written: 0,
        })
    }

    /// Queues one text message.
    pub(super) fn say(&mut self, payload: &[u8]) {
        self.frame(TEXT, payload);
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.out.push(0x80 | opcode);
        match payload.len() {
            len @ 0..=125 => self.out.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                self.out.push(0x80 | LEN_16);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.out.push(0x80 | LEN_64);
                self.out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(payload);
    }

    /// Whether the server takes what is said.
    pub(super) fn is_fluent(&self) -> bool {
        self.out.len() - self.written < OUT_BYTES_MAX
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.out.len()
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err("the server takes nothing".into()),
                Ok(taken) => self.written += taken,
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("write: {error}")),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once into `scratch`, and calls `hear` for each whole message.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        mut hear: impl FnMut(Heard<'_>),
    ) -> Result<Got, Fault> {
        let read = match self.stream.read(scratch) {
            Ok(0) => return Ok(Got::End(None)),
            Ok(read) => read,
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::NotConnected, ErrorKind::Interrupted]
                    .contains(&error.kind()) =>
            {
                return Ok(Got::All);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Got::End(None)),
            Err(error) => return Err(format!("read: {error}")),
        };
        let is_full = read == scratch.len();
        let whole;
        let mut bytes = &scratch[..read];
        let mut kept = std::mem::take(&mut self.rest);
        if !kept.is_empty() {
            kept.extend_from_slice(bytes);
            whole = kept;
            bytes = &whole;
        }
        if let State::Opening(accept) = &self.state {
            let Some(len) = upgraded(bytes, accept)? else {
                self.rest = bytes.to_vec();
                return Ok(Got::Some);
            };
            self.state = State::Open;
            bytes = &bytes[len..];
            hear(Heard::Open);
        }
        while let Some((head, len)) = head(bytes)? {
            let Some(payload) = bytes.get(head..head + len) else { break };
            let (is_last, opcode) = (bytes[0] & 0x80 != 0, bytes[0] & 0x0f);
            bytes = &bytes[head + len..];
            match opcode {
                PING => self.frame(PONG, payload),
                PONG => {}
                CLOSE => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Ok(Got::End(code));
                }
                0..=BINARY if is_last && self.fragments.is_empty() => hear(Heard::Message(payload)),
                0..=BINARY => {
                    self.fragments.extend_from_slice(payload);
                    if is_last {
                        hear(Heard::Message(&std::mem::take(&mut self.fragments)));
                    }
                }
                _ => return Err("a frame of no known kind".into()),
            }
        }
        self.rest = bytes.to_vec();
        Ok(if is_full { Got::Some } else { Got::All })
    }
}

/// What a server says.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// The handshake is done.
    Open,
    Message(&'a [u8]),
}

/// Bytes of the answer to a handshake; `None`: it is not whole.
fn upgraded(bytes: &[u8], accept: &str) -> Result<Option<usize>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| format!("handshake: {error}"))?;
    let httparse::Status::Complete(len) = parsed else {
        let is_long = bytes.len() > HANDSHAKE_BYTES_MAX;
        return if is_long { Err("handshake: it does not end".into()) } else { Ok(None) };
    };
    if response.code != Some(101) {
        let (code, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default());
        return Err(format!("handshake: HTTP {code} {reason}"));
    }
    let answer = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    match answer {
        Some(header) if header.value == accept.as_bytes() => Ok(Some(len)),
        _ => Err("handshake: the answer is to another question".into()),
    }
}

/// Bytes of a frame's head, and of its payload; `None`: the head is not whole.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let [_, second, ..] = bytes else { return Ok(None) };
    let (head, len) = match second & 0x7f {
        LEN_16 => match bytes.get(2..4) {
            Some(two) => (4, u64::from(u16::from_be_bytes(two.try_into().expect("two")))),
            None => return Ok(None),
        },
        LEN_64 => match bytes.get(2..10) {
            Some(eight) => (10, u64::from_be_bytes(eight.try_into().expect("eight"))),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if second & 0x80 != 0 || len > MESSAGE_BYTES_MAX as u64 {
        return Err("a frame that no server sends".into());
    }
    Ok(Some((head, len as usize)))
}
