#!/usr/bin/env bash
# tokio (one thread) and tokio-tungstenite, as one would write it: a task and a bounded queue for each connection, feed all that
# waits and then flush. Raw dialect.
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/tokio"
case "$1" in
about) echo "raw|/|tokio 1 + tokio-tungstenite 0.30" ;;
install)
    mkdir -p "$home/src" && cd "$home"
    cat >Cargo.toml <<'TOML'
[package]
name = "peer"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
tokio = { version = "1", features = ["rt", "net", "sync", "macros"] }
tokio-tungstenite = { version = "=0.30.0", default-features = false, features = ["handshake"] }
futures-util = { version = "0.3", features = ["sink"] }
[profile.release]
lto = "thin"
panic = "abort"
TOML
    cat >src/main.rs <<'RUST'
use std::{cell::RefCell, collections::HashMap, rc::Rc};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Channels = Rc<RefCell<HashMap<String, Vec<(u64, mpsc::Sender<Utf8Bytes>)>>>>;

fn main() {
    let port: u16 = std::env::args().nth(1).expect("a port").parse().expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], port).into()).expect("a free port");
        let listener = socket.listen(4096).expect("it listens");
        let (channels, mut next) = (Channels::default(), 0);
        while let Ok((stream, _)) = listener.accept().await {
            next += 1;
            stream.set_nodelay(true).expect("a socket");
            tokio::task::spawn_local(serve(stream, next, channels.clone()));
        }
    });
}

async fn serve(stream: tokio::net::TcpStream, me: u64, channels: Channels) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut sink, mut messages) = socket.split();
    let (queue, mut waiting) = mpsc::channel::<Utf8Bytes>(4096);
    let writer = tokio::task::spawn_local(async move {
        while let Some(first) = waiting.recv().await {
            if sink.feed(Message::Text(first)).await.is_err() { return }
            while let Ok(more) = waiting.try_recv() {
                if sink.feed(Message::Text(more)).await.is_err() { return }
            }
            if sink.flush().await.is_err() { return }
        }
    });
    let mut mine = Vec::new();
    while let Some(Ok(message)) = messages.next().await {
        let Message::Text(text) = message else { continue };
        if let Some(name) = text.strip_prefix("S ") {
            channels.borrow_mut().entry(name.to_string()).or_default().push((me, queue.clone()));
            mine.push(name.to_string());
            let _ = queue.send(format!("s {name}").into()).await;
        } else if let Some((name, payload)) = text.trim_start_matches("P ").split_once(' ') {
            let payload = Utf8Bytes::from(payload);
            if let Some(list) = channels.borrow().get(name) {
                // A queue that is full loses: the load generator says so.
                for (_, queue) in list { let _ = queue.try_send(payload.clone()); }
            }
        }
    }
    for name in mine {
        if let Some(list) = channels.borrow_mut().get_mut(&name) { list.retain(|(other, _)| *other != me) }
    }
    writer.abort();
}
RUST
    cargo build --release --quiet
    ;;
start) exec "$home/target/release/peer" "$2" ;;
esac
