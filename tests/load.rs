//! The load generator is judged itself: a server that loses, doubles or reorders one message must make a run fail, and an honest one must not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
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
    converse(stream, |text, sender| {
        if let Some(name) = text.strip_prefix("S ") {
            subscribers.lock().expect("whole").push(sender.clone());
            return Some(format!("s {name}"));
        }
        if let Some((_, payload)) = text.trim_start_matches("P ").split_once(' ') {
            publish(deed, subscribers, published, payload);
        }
        None
    });
}

/// One client's connection, until either side ends it: `answer` is given what it says and by which way something is told to it later, of which
/// an empty text is the end.
fn converse(stream: TcpStream, mut answer: impl FnMut(&str, &Sender<String>) -> Option<String>) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    let (sender, mine): (Sender<String>, Receiver<String>) = channel();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                if let Some(answer) = answer(&text, &sender)
                    && socket.send(answer.into()).is_err()
                {
                    return;
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
    load_with(address, &["--dialect", "raw", "-n", conns])
}

fn load_with(address: SocketAddr, words: &[&str]) -> (i32, Option<Value>, String) {
    let home = tempfile::tempdir().expect("a directory");
    let (json, html) = (home.path().join("figures.json"), home.path().join("page.html"));
    let url = format!("ws://{address}/");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.args(["load", "fanout", "--url", &url, "--rate", "50", "--seconds", "0.6"]);
    command.args(["--warm", "0"]).args(words);
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

/// What a server of the Centrifuge dialect does: with the twentieth publication it ends the connection that subscribed second, which comes
/// back by `recover`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Return {
    Honest,
    /// The first publication that was missed is withheld.
    Withholds,
    /// The last that was heard comes once more.
    Repeats,
    /// It is told that not everything is there.
    Tells,
    /// The tenth publication is refused.
    Refuses,
    /// It is refused, and all the same one of the subscribers gets it.
    RefusesAndSlips,
}

#[derive(Default)]
struct Channel {
    /// With the offsets 1, 2, 3 …
    past: Vec<Value>,
    subscribers: Vec<Sender<String>>,
    publications: u32,
    has_ended_one: bool,
}

fn push(data: &Value, offset: usize) -> String {
    json!({ "push": { "channel": "c", "pub": { "data": data, "offset": offset } } }).to_string()
}

impl Channel {
    fn publish(&mut self, how: Return, id: &Value, data: &Value) -> String {
        self.publications += 1;
        let is_refused = matches!(how, Return::Refuses | Return::RefusesAndSlips);
        let is_refused = is_refused && self.publications == 10;
        let slips = how == Return::RefusesAndSlips;
        if !is_refused || slips {
            self.past.push(data.clone());
            let reached = if is_refused { 1 } else { self.subscribers.len() };
            for (nth, subscriber) in self.subscribers.iter().take(reached).enumerate() {
                let ends = nth == 1 && self.publications == 20 && !self.has_ended_one;
                let _ =
                    subscriber.send(if ends { String::new() } else { push(data, self.past.len()) });
            }
            self.has_ended_one |= self.publications == 20;
        }
        if is_refused {
            json!({ "id": id, "error": { "code": 100, "message": "x", "temporary": true } })
                .to_string()
        } else {
            // In the order of a server.
            format!(r#"{{"id":{id},"publish":{{}}}}"#)
        }
    }

    fn subscribe(
        &mut self,
        how: Return,
        id: &Value,
        asked: &Value,
        mine: &Sender<String>,
    ) -> String {
        self.subscribers.push(mine.clone());
        let mut answer = json!({ "recoverable": true, "epoch": "e", "offset": self.past.len() });
        if asked["recover"] == true {
            assert_eq!(asked["epoch"], "e");
            let stood = asked["offset"].as_u64().expect("a place") as usize;
            let from = match how {
                Return::Withholds => stood + 1,
                Return::Repeats => stood - 1,
                _ => stood,
            };
            let missed = self.past.iter().enumerate().skip(from);
            let missed = missed.map(|(at, data)| json!({ "data": data, "offset": at + 1 }));
            answer["recovered"] = (how != Return::Tells).into();
            answer["publications"] = missed.collect();
        }
        json!({ "id": id, "subscribe": answer }).to_string()
    }
}

fn returning(how: Return) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let channel = Arc::new(Mutex::new(Channel::default()));
        for stream in listener.incoming().map_while(Result::ok) {
            let channel = Arc::clone(&channel);
            std::thread::spawn(move || serve_returning(stream, how, &channel));
        }
    });
    address
}

fn serve_returning(stream: TcpStream, how: Return, shared: &Mutex<Channel>) {
    converse(stream, |text, sender| {
        let asked: Value = serde_json::from_str(text).expect("JSON");
        let id = &asked["id"];
        let mut shared = shared.lock().expect("whole");
        Some(if asked.get("connect").is_some() {
            json!({ "id": id, "connect": {} }).to_string()
        } else if let Some(subscribe) = asked.get("subscribe") {
            shared.subscribe(how, id, subscribe, sender)
        } else {
            shared.publish(how, id, &asked["publish"]["data"])
        })
    });
}

/// Of a run whose clients come again: missing, doubled, not recovered, ended, lost, refused.
fn judged_returning(how: Return, words: &[&str]) -> (bool, [u64; 6]) {
    let words = [&["-n", "3", "--token-secret", ""], words].concat();
    let (code, figures, said) = load_with(returning(how), &words);
    let figures = figures.unwrap_or_else(|| panic!("{how:?}: {said}"));
    let names = ["missing", "duplicates", "unrecovered", "ended", "lost", "refused"];
    let counts = names.map(|name| figures[name].as_u64().expect("a count"));
    assert_eq!(figures["out_of_order"], 0, "{how:?}: {said}");
    (code == 1, counts)
}

#[test]
fn who_comes_again_is_owed_what_it_missed_once() {
    let again = ["--reconnect"];
    assert_eq!(judged_returning(Return::Honest, &again), (false, [0, 0, 0, 0, 1, 0]));
    assert_eq!(judged_returning(Return::Withholds, &again), (true, [1, 0, 0, 0, 1, 0]));
    assert_eq!(judged_returning(Return::Repeats, &again), (true, [0, 1, 0, 0, 1, 0]));
    assert_eq!(judged_returning(Return::Tells, &again), (true, [0, 0, 1, 0, 1, 0]));
    let (is_wrong, [missing, _, _, ended, lost, _]) = judged_returning(Return::Honest, &[]);
    assert!(is_wrong && missing > 0, "nobody was asked to come again");
    assert_eq!((ended, lost), (1, 0));
}

#[test]
fn what_is_refused_is_owed_to_nobody_unless_somebody_heard_it() {
    let again = ["--reconnect"];
    assert_eq!(judged_returning(Return::Refuses, &again), (false, [0, 0, 0, 0, 1, 1]));
    let (is_wrong, [missing, .., refused]) = judged_returning(Return::RefusesAndSlips, &again);
    assert_eq!((is_wrong, missing, refused), (true, 2, 1));
    let (is_wrong, [missing, ..]) = judged_returning(Return::Refuses, &[]);
    assert!(is_wrong && missing >= 3, "without coming again everything is owed");
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
