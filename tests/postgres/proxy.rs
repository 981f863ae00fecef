//! A way to a server that tests can do something to.

use std::net::{TcpListener, TcpStream};
use std::thread;

/// Opens a port from which each connection leads to the port that `to` says then. `carry` moves the bytes of one direction, on a thread of its
/// own: from, to, and whether it is the client who speaks.
pub(crate) fn open(
    to: impl Fn() -> u16 + Send + 'static,
    carry: impl Fn(TcpStream, TcpStream, bool) + Clone + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", to())).expect("the server");
            let (back, from) = (client.try_clone().expect("one"), server.try_clone().expect("one"));
            let (asks, answers) = (carry.clone(), carry.clone());
            thread::spawn(move || asks(client, server, true));
            thread::spawn(move || answers(from, back, false));
        }
    });
    port
}
