//! The opening handshake: RFC 6455 §4.2, and what else comes to a websocket port.

use tungstenite::handshake::derive_accept_key;

/// A valid request to upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// Path without query.
    pub path: &'a str,
    /// After the `?`; empty when there is none.
    pub query: &'a str,
    pub key: &'a str,
    /// `Origin`, if there was one.
    pub origin: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`, as it came.
    pub protocols: Option<&'a str>,
    /// Bytes of the head: what follows in the buffer are frames.
    pub len: usize,
}

/// Why there is no upgrade; [`Refusal::response`] says so to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Not HTTP/1.1, ambiguous, or not a websocket's handshake.
    Malformed,
    /// A plain HTTP request.
    NotUpgrade,
    /// An upgrade to another version of the protocol than 13.
    Version,
    TooBig,
    /// No such path.
    NotFound,
    /// A page of somebody else.
    Forbidden,
    /// We are full or going down.
    Unavailable,
}

impl Refusal {
    /// A whole response, after which the connection is closed.
    pub fn response(self) -> &'static [u8] {
        match self {
            Self::Malformed => b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Self::NotUpgrade => b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nContent-Type: text/plain\r\nContent-Length: 33\r\n\r\nThis port speaks websocket only.\n",
            Self::Version => b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n",
            Self::TooBig => b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Self::NotFound => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Self::Forbidden => b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Self::Unavailable => b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        }
    }
}

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// Reads a request's head. `None`: not whole yet. `from`: how far earlier calls with the same bytes have looked, moved on; so the cost
/// of a head that arrives byte by byte is linear.
pub fn read<'a>(
    bytes: &'a [u8],
    from: &mut usize,
    bytes_max: usize,
) -> Result<Option<Request<'a>>, Refusal> {
    let look = &bytes[from.saturating_sub(3)..];
    let Some(end) = look.windows(4).position(|four| four == b"\r\n\r\n") else {
        *from = bytes.len();
        // A first line that no HTTP request begins with needs no waiting.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Err(Refusal::Malformed);
        }
        return if bytes.len() >= bytes_max { Err(Refusal::TooBig) } else { Ok(None) };
    };
    let len = from.saturating_sub(3) + end + 4;
    if len > bytes_max {
        return Err(Refusal::TooBig);
    }
    parse(&bytes[..len]).map(Some)
}

fn parse(head: &[u8]) -> Result<Request<'_>, Refusal> {
    // httparse takes bare line feeds; between two parsers they mean two different requests.
    let bare = head
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    if bare {
        return Err(Refusal::Malformed);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooBig),
        Err(_) => return Err(Refusal::Malformed),
    }
    if request.version != Some(1) {
        return Err(Refusal::Malformed);
    }
    let target = request.path.ok_or(Refusal::Malformed)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = &*request.headers;
    let one = |name: &str| -> Result<Option<&str>, Refusal> {
        let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let Some(first) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Refusal::Malformed);
        }
        std::str::from_utf8(first.value)
            .map(|value| Some(value.trim()))
            .map_err(|_| Refusal::Malformed)
    };
    let has = |name: &str, token: &str| {
        headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(Refusal::NotUpgrade);
    }
    if request.method != Some("GET") || one("host")?.is_none() {
        return Err(Refusal::Malformed);
    }
    if one("sec-websocket-version")? != Some("13") {
        return Err(Refusal::Version);
    }
    // RFC 6455 §4.2.1: 16 bytes in base64.
    let key = one("sec-websocket-key")?.ok_or(Refusal::Malformed)?;
    if key.len() != 24 || !key.ends_with("==") {
        return Err(Refusal::Malformed);
    }
    let (origin, protocols) = (one("origin")?, one("sec-websocket-protocol")?);
    Ok(Request { path, query, key, origin, protocols, len: head.len() })
}

/// Our answer to an upgrade. Some clients refuse a status line without its phrase.
pub fn accept(key: &str, protocol: Option<&str>, into: &mut Vec<u8>) {
    into.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    into.extend_from_slice(derive_accept_key(key.as_bytes()).as_bytes());
    if let Some(protocol) = protocol {
        into.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        into.extend_from_slice(protocol.as_bytes());
    }
    into.extend_from_slice(b"\r\n\r\n");
}
