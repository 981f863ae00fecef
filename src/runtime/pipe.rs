//! The bytes of one link's connection: as they are, or through TLS. Who shows no certificate that we believe gets no byte to a [`Stream`].
//!
//! [`Stream`]: crate::wire::stream::Stream

use std::io::{self, BufRead as _, ErrorKind, Write};

use rustls::{CertificateError, Connection, Error};
use tokio::net::TcpStream;

use super::papers::{self, Papers};
use super::refusals::Refusal;
use crate::wire::stream::is_greeting;
use crate::wire::warrant::Warrant;

/// Bytes taken from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that TLS keeps for a socket which takes none.
const SEALED_BYTES_MAX: usize = 256 << 10;

/// Tells a plain node whom it speaks to: fatal, unexpected message (RFC 8446 §6.2).
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 10];

/// One connection. Its driver waits for the socket, and calls `read` and `write` when it is ready.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: TcpStream,
    scratch: Vec<u8>,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: Connection,
    /// Until the handshake is done.
    is_strange: bool,
    /// Opened bytes of one read.
    opened: Vec<u8>,
}

/// What one read gave.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    /// Once, before any bytes: who showed a certificate.
    pub(super) warrant: Option<Warrant>,
    /// None while a handshake is under way.
    pub(super) bytes: &'a [u8],
}

/// Why there is nothing more to hear or to say.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) why: String,
    /// Somebody was refused, or refused us.
    pub(super) refusal: Option<Refusal>,
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self { why: error.to_string(), refusal: None }
    }
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        use CertificateError as Bad;
        let refusal = match &error {
            Error::InvalidCertificate(
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. },
            ) => Refusal::Expired,
            Error::InvalidCertificate(Bad::Other(_)) => Refusal::Warrant,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Refusal::Certificate,
            _ => Refusal::Handshake,
        };
        Self { why: papers::sentence(&error), refusal: Some(refusal) }
    }
}

impl Pipe {
    /// Without papers it is plain.
    pub(super) fn dialed(socket: TcpStream, papers: Option<&Papers>) -> Result<Self, Cut> {
        let tls = papers.map(|papers| papers.dial().map(Connection::from)).transpose()?;
        Self::new(socket, tls)
    }
    pub(super) fn answered(socket: TcpStream, papers: Option<&Papers>) -> Result<Self, Cut> {
        let tls = papers.map(|papers| papers.answer().map(Connection::from)).transpose()?;
        Self::new(socket, tls)
    }

    fn new(socket: TcpStream, tls: Option<Connection>) -> Result<Self, Cut> {
        // A batch is a whole turn's mail: there is nothing to wait for.
        socket.set_nodelay(true)?;
        let tls = tls.map(|mut connection| {
            connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
            Box::new(Tls { connection, is_strange: true, opened: Vec::new() })
        });
        Ok(Self { socket, scratch: vec![0; READ_BYTES], tls })
    }

    /// What is there now. `None`: nothing yet.
    ///
    /// # Errors
    /// It ended, or is to be.
    pub(super) fn read(&mut self) -> Result<Option<Heard<'_>>, Cut> {
        let Self { socket, scratch, tls } = self;
        let len = match socket.try_read(scratch) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let raw = &scratch[..len];
        let is_strange = tls.as_ref().is_some_and(|tls| tls.is_strange);
        if len == 0 {
            return Err(if is_strange {
                let why = "it ended in the middle of the handshake: does it speak TLS, and know our authority?";
                Cut { why: why.into(), refusal: Some(Refusal::Handshake) }
            } else {
                Cut { why: "it ended".into(), refusal: None }
            });
        }
        let Some(tls) = tls else { return Ok(Some(Heard { warrant: None, bytes: raw })) };
        if is_strange && is_greeting(raw) {
            let _ = socket.try_write(&ALERT);
            let why = "it speaks without TLS, and this node does not";
            return Err(Cut { why: why.into(), refusal: Some(Refusal::Plain) });
        }
        let opened = tls.open(raw);
        if opened.is_err() {
            // The alert says why, if the other side still hears it.
            let _ = tls.connection.write_tls(&mut Out(socket));
        }
        let warrant = opened?;
        Ok(Some(Heard { warrant, bytes: &tls.opened }))
    }

    /// Gives the socket what it takes of `outgoing`, and of what TLS has to say.
    ///
    /// # Errors
    /// It ended.
    pub(super) fn write(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Cut> {
        let Some(tls) = &mut self.tls else {
            match self.socket.try_write(outgoing) {
                Ok(len) => {
                    outgoing.drain(..len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        };
        loop {
            while tls.connection.wants_write() {
                match tls.connection.write_tls(&mut Out(&self.socket)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            // What is said during a handshake waits in TLS until it is done.
            let len = tls.connection.writer().write(outgoing)?;
            outgoing.drain(..len);
            if len == 0 {
                return Ok(());
            }
        }
    }

    /// Whether TLS has something to say besides what it is given.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.connection.wants_write())
    }
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl Tls {
    /// Opens what came. Some: the handshake is done with it, and who is there has shown this.
    fn open(&mut self, mut raw: &[u8]) -> Result<Option<Warrant>, Cut> {
        let Self { connection, is_strange, opened } = self;
        opened.clear();
        let mut warrant = None;
        // TLS takes a few KiB at a time, and opened bytes have to make room for more.
        while !raw.is_empty() && connection.read_tls(&mut raw)? > 0 {
            connection.process_new_packets()?;
            if *is_strange && !connection.is_handshaking() {
                let shown = connection.peer_certificates().and_then(|chain| chain.first());
                let shown = shown.ok_or(Error::NoCertificatesPresented)?;
                let (read, _) = papers::read(shown)
                    .map_err(|why| Cut { why: why.to_string(), refusal: Some(Refusal::Warrant) })?;
                warrant = Some(read);
                *is_strange = false;
            }
            let mut reader = connection.reader();
            while let Ok(bytes) = reader.fill_buf() {
                let len = bytes.len();
                if len == 0 {
                    break;
                }
                opened.extend_from_slice(bytes);
                reader.consume(len);
            }
        }
        Ok(warrant)
    }
}

/// A socket that takes what it can.
struct Out<'a>(&'a TcpStream);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
