//! Connections of the websocket port that turned out to speak plain HTTP: the cores hand them over, with what they have read.

use std::io::{self, Cursor};
use std::net::{SocketAddr, TcpStream as Plain};
use std::os::fd::OwnedFd;

use axum::extract::Request;
use axum::extract::connect_info::Connected;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncReadExt as _, Chain, Join, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::webapp::http::Remote;

/// One of them, and the bytes that were read of it: a whole head at least.
pub(super) type HandedOver = (OwnedFd, Vec<u8>);

/// Connections that wait to be served: more are closed (*shed*).
pub(super) const WAITING_MAX: usize = 1_024;

/// Where the HTTP server takes them from.
pub(super) struct Handed {
    waiting: mpsc::Receiver<HandedOver>,
    address: SocketAddr,
}

impl Handed {
    pub(super) fn new(waiting: mpsc::Receiver<HandedOver>, address: SocketAddr) -> Self {
        Self { waiting, address }
    }
}

impl Listener for Handed {
    type Io = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Some((fd, read)) = self.waiting.recv().await else {
                // The cores have ended, and nobody comes any more.
                std::future::pending::<()>().await;
                continue;
            };
            // Whoever hung up meanwhile is nobody's loss.
            if let Ok((stream, remote)) = taken(fd) {
                let (reader, writer) = stream.into_split();
                return (join(Cursor::new(read).chain(reader), writer), remote);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Handed>> for Remote {
    fn connect_info(stream: IncomingStream<'_, Handed>) -> Self {
        Self(*stream.remote_addr())
    }
}

fn taken(fd: OwnedFd) -> io::Result<(TcpStream, SocketAddr)> {
    let plain = Plain::from(fd);
    plain.set_nonblocking(true)?;
    let remote = plain.peer_addr()?;
    Ok((TcpStream::from_std(plain)?, remote))
}

/// A websocket is opened by the first request of a connection: here it would be the second.
pub(super) async fn no_upgrade(request: Request, next: Next) -> Response {
    let is_websocket = request
        .headers()
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().contains("websocket"));
    if !is_websocket {
        return next.run(request).await;
    }
    let headers = [(UPGRADE, "websocket"), (CONNECTION, "close")];
    let words = "Open a websocket with the first request of a connection.\n";
    (StatusCode::UPGRADE_REQUIRED, headers, words).into_response()
}
