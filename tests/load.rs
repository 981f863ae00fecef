//! The load generator is judged itself: a server that loses, doubles or reorders one message must make a run fail, and an honest one must not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;

/// What the stub does to the tenth publication, at one of its subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Nothing,
    Loses,
    Doubles,
    Reorders,
    Ends,
}

type Subscribers = Arc<Mutex<Vec<Sender<String>>>>;

/// A server of the raw dialect.
fn stub(deed: Deed) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (subscribers, published) = (Subscribers::default(), Arc::new(AtomicU32::new(0)));
        for stream in listener.incoming().map_while(Result::ok) {
            let (subscribers, published) = (Arc::clone(&subscribers), Arc::clone(&published));
            std::thread::spawn(move || serve(stream, deed, &subscribers, &published));
        }
    });
    address
}

fn serve(stream: TcpStream, deed: Deed, subscribers: &Subscribers, published: &AtomicU32) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    let (sender, mine): (Sender<String>, Receiver<String>) = channel();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                if let Some(name) = text.strip_prefix("S ") {
                    subscribers.lock().expect("whole").push(sender.clone());
                    if socket.send(format!("s {name}").into()).is_err() {
                        return;
                    }
                } else if let Some((_, payload)) = text.trim_start_matches("P ").split_once(' ') {
                    publish(deed, subscribers, published, payload);
                }
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut]
                    .contains(&error.kind()) => {}
            Err(_) => return,
        }
        while let Ok(one) = mine.try_recv() {
            if one.is_empty() || socket.send(one.into()).is_err() {
                return;
            }
        }
    }
}

fn publish(deed: Deed, subscribers: &Subscribers, published: &AtomicU32, payload: &str) {
    let n = published.fetch_add(1, Ordering::AcqRel) + 1;
    let subscribers = subscribers.lock().expect("whole");
    for (nth, subscriber) in subscribers.iter().enumerate() {
        let say = |text: &str| drop(subscriber.send(text.into()));
        match (deed, n) {
            (Deed::Loses, 10) if nth == 1 => {}
            (Deed::Doubles, 10) if nth == 1 => (0..2).for_each(|_| say(payload)),
            (Deed::Ends, 10) if nth == 1 => say(""),
            // The tenth comes behind the eleventh.
            (Deed::Reorders, 10) if nth == 1 => HELD.with(|held| held.set(Some(payload.into()))),
            (Deed::Reorders, 11) if nth == 1 => {
                say(payload);
                say(&HELD.with(std::cell::Cell::take).unwrap_or_default());
            }
            _ => say(payload),
        }
    }
}

thread_local! {
    static HELD: std::cell::Cell<Option<String>> = const { std::cell::Cell::new(None) };
}

/// The exit code, the figures if there are any, and what was said.
fn load(address: SocketAddr, conns: &str) -> (i32, Option<Value>, String) {
    let home = tempfile::tempdir().expect("a directory");
    let (json, html) = (home.path().join("figures.json"), home.path().join("page.html"));
    let url = format!("ws://{address}/");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.args([
        "load",
        "fanout",
        "--dialect",
        "raw",
        "--url",
        &url,
        "-n",
        conns,
        "--rate",
        "50",
        "--seconds",
        "0.6",
        "--warm",
        "0",
    ]);
    let output =
        command.arg("--json").arg(&json).arg("--html").arg(&html).output().expect("it runs");
    let figures =
        std::fs::read_to_string(&json).ok().map(|text| serde_json::from_str(&text).expect("JSON"));
    if figures.is_some() {
        let page = std::fs::read_to_string(&html).expect("a page");
        assert!(page.contains("<svg") && page.contains("deliveries a second"), "{page}");
    }
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit"), figures, String::from_utf8_lossy(&said).into_owned())
}

/// What a run says of a deed: missing, doubled, out of order, ended.
fn judged(deed: Deed) -> (i32, [u64; 4]) {
    let (code, figures, said) = load(stub(deed), "3");
    let figures = figures.unwrap_or_else(|| panic!("{deed:?}: {said}"));
    let count = |name: &str| figures[name].as_u64().expect("a count");
    assert_eq!(count("published"), 30, "{said}");
    assert!(figures["latency_us"]["p99"].as_u64().is_some_and(|micros| micros > 0), "{said}");
    (code, ["missing", "duplicates", "out_of_order", "ended"].map(count))
}

#[test]
fn an_honest_server_passes() {
    let (code, wrong) = judged(Deed::Nothing);
    assert_eq!(wrong, [0, 0, 0, 0]);
    // On a busy machine the generator may say that it was late itself.
    assert!(code == 0 || code == 3, "{code}");
}

#[test]
fn a_message_that_is_lost_doubled_or_late_fails_the_run() {
    assert_eq!(judged(Deed::Loses), (1, [1, 0, 0, 0]));
    assert_eq!(judged(Deed::Doubles), (1, [0, 1, 0, 0]));
    assert_eq!(judged(Deed::Reorders), (1, [0, 0, 1, 0]));
    let (code, [missing, _, _, ended]) = judged(Deed::Ends);
    assert_eq!((code, ended), (1, 1));
    assert!(missing >= 20, "{missing}");
}

#[test]
fn whoever_is_not_let_in_says_so() {
    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (code, figures, said) = load(nobody, "3");
    assert_eq!((code, figures), (1, None), "{said}");
    assert!(said.contains("refused"), "{said}");
    let (code, _, said) = load(stub(Deed::Nothing), "1000000");
    assert!(code == 1 && said.contains("ulimit -n"), "{said}");
}

/// The last bytes and the end come as one: nothing more is told of such a socket.
#[test]
fn who_is_shown_out_with_the_first_word_says_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let key = request.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
            });
            let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            SockRef::from(&stream).set_tcp_cork(true).expect("a socket of TCP");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let begun = Instant::now();
    let (code, figures, said) = load(address, "3");
    assert_eq!((code, figures), (1, None), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10) && said.contains("ended it"), "{said}");
}
