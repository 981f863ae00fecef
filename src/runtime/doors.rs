//! Listening sockets: one for HTTP, one per core for websockets, and a sentence when an address cannot be had.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::webapp::http::Remote;

/// How long a port may be in use before that is said.
const PATIENCE: Duration = Duration::from_secs(1);
const ACCEPT_QUEUE_MAX: i32 = 4_096;
/// What the kernel may hold for one client: its own tuning gives megabytes to one that does not read.
const SEND_BYTES: usize = 128 << 10;

/// An HTTP port, and the flag that chooses it.
pub(super) fn http(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    let listener = open(address, false).map_err(|error| sentence(address, flag, &error))?;
    Ok(listener.into())
}

impl Connected<IncomingStream<'_, tokio::net::TcpListener>> for Remote {
    fn connect_info(stream: IncomingStream<'_, tokio::net::TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The websocket port, once per core: the kernel deals connections out to them. Also the address, if the port was 0.
pub(super) fn websocket(
    address: SocketAddr,
    cores: usize,
) -> Result<(Vec<OwnedFd>, SocketAddr), String> {
    let fault = |error: io::Error| sentence(address, "--ws", &error);
    // SO_REUSEPORT would let us in beside another campanile: so it is tried without first.
    drop(open(address, false).map_err(fault)?);
    let first = open(address, true).map_err(fault)?;
    let bound = first.local_addr().map_err(fault)?.as_socket().unwrap_or(address);
    let mut listeners = vec![OwnedFd::from(first)];
    for _ in 1..cores {
        listeners.push(open(bound, true).map_err(fault)?.into());
    }
    Ok((listeners, bound))
}

/// A process that was killed may hold its ports for a moment longer: its rings are taken down in the background.
fn open(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let begun = Instant::now();
    loop {
        match try_open(address, is_shared) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(PATIENCE / 20);
            }
            done => return done,
        }
    }
}

fn try_open(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if is_shared {
        socket.set_reuse_port(true)?;
        socket.set_send_buffer_size(SEND_BYTES)?;
    }
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_QUEUE_MAX)?;
    Ok(socket)
}

fn sentence(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is in use by another process; stop it, or choose another address with {flag} (port 0 takes a free one)"
        ),
        _ => format!("cannot listen on {address}: {error}; choose another address with {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_busy_port_is_found_even_when_its_holder_shares_it() {
        let (listeners, bound) = websocket(any(), 3).expect("a free port");
        assert_eq!(listeners.len(), 3);
        let why = websocket(bound, 1).expect_err("held by the three");
        assert!(why.contains(&bound.to_string()) && why.contains("--ws"), "{why}");
        assert!(http(bound, "--http").is_err());
        drop(listeners);
        assert!(websocket(bound, 2).is_ok());
    }
}
