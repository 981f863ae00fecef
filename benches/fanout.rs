//! What a delivery costs the server: its CPU time for each of a thousand subscribers, beside a plain `send()` loop over as many sockets.
//!
//! `cargo bench --bench fanout -- [subscribers] [rounds]`. Both sides write the same frame to TCP sockets on loopback, whose readers read
//! after the measurement; rounds alternate, and medians are told. CPU time is what the scheduler gave the threads (`schedstat`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::net::{SendFlags, send};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// Messages of one round.
const MESSAGES: usize = 40;

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse().ok());
    let subscribers = numbers.next().unwrap_or(1_000);
    let rounds = numbers.next().unwrap_or(9);
    let server = Server::start(subscribers);
    let (token, channel) = server.workspace();
    let mut sockets: Vec<TcpStream> = (0..subscribers).map(|_| server.subscriber(&token)).collect();
    let mut plain = Plain::new(subscribers);
    let mut frame_len = 0;
    let (mut core, mut whole, mut loops) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let before = (server.cpu_ns("core-"), server.cpu_ns(""));
        for _ in 0..MESSAGES {
            server.post(&channel);
        }
        for socket in &mut sockets {
            frame_len = (0..MESSAGES).map(|_| next_message(socket)).max().unwrap_or(0);
        }
        let after = (server.cpu_ns("core-"), server.cpu_ns(""));
        let each = |from: u64, to: u64| (to - from) as f64 / (subscribers * MESSAGES) as f64;
        core.push(each(before.0, after.0));
        whole.push(each(before.1, after.1));
        loops.push(plain.round(frame_len));
    }
    // The first round warms up.
    let [core, whole, loops] = [core, whole, loops].map(|mut all| median(&mut all[1..]));
    println!(
        "{subscribers} subscribers, {rounds} rounds of {MESSAGES} messages, frames of {frame_len} bytes; nanoseconds of CPU per delivery:"
    );
    println!("  the core's thread          {core:>8.0}");
    println!("  the whole process          {whole:>8.0}   (Web API and database included)");
    println!("  a plain send() loop        {loops:>8.0}");
    println!("  core / send() loop         {:>8.2}", core / loops);
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Reads frames up to the next message; its length with the header.
fn next_message(socket: &mut TcpStream) -> usize {
    loop {
        let mut head = [0; 2];
        socket.read_exact(&mut head).expect("a frame");
        let mut extra = [0; 8];
        let (len, head_len) = match head[1] {
            126 => {
                socket.read_exact(&mut extra[..2]).expect("a length");
                (usize::from(u16::from_be_bytes([extra[0], extra[1]])), 4)
            }
            127 => panic!("no message is so long"),
            short => (usize::from(short), 2),
        };
        let mut payload = vec![0; len];
        socket.read_exact(&mut payload).expect("a payload");
        if head[0] & 0x0f == 1 && is_message(&payload) {
            return len + head_len;
        }
    }
}

fn is_message(payload: &[u8]) -> bool {
    serde_json::from_slice::<Value>(payload).is_ok_and(|event| event["type"] == "message")
}

/// A `campanile dev` of one core that writes nothing to disk.
struct Server {
    process: Child,
    http: SocketAddr,
    ws: SocketAddr,
    token: String,
}

impl Server {
    fn start(subscribers: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
        command.args("dev --ephemeral --cores 1 --http 127.0.0.1:0 --ws 127.0.0.1:0".split(' '));
        for limit in ["connections_per_user_max", "boots_burst"] {
            command.args(["--limit".into(), format!("{limit}={}", subscribers + 10)]);
        }
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("ready");
        let address = |key: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.expect("an address").parse().expect("an address")
        };
        let (http, ws) = (address("http=http://"), address("ws=ws://"));
        Self { process, http, ws, token: String::new() }.with_token()
    }

    fn with_token(mut self) -> Self {
        let workspace = self.ask("GET", "/dev/workspace.json", "");
        self.token = workspace["users"][1]["token"].as_str().expect("bob").into();
        self
    }

    /// Alice's token, and a channel.
    fn workspace(&self) -> (String, String) {
        let workspace = self.ask("GET", "/dev/workspace.json", "");
        let token = workspace["users"][0]["token"].as_str().expect("alice").into();
        (token, workspace["channels"][0]["id"].as_str().expect("general").into())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut socket = TcpStream::connect(self.http).expect("HTTP");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.http,
            body.len()
        );
        socket.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("headers");
        serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON: {answer}"))
    }

    fn post(&self, channel: &str) {
        let text = "Has%20anybody%20seen%20the%20new%20tower%3F%20It%20rings%20at%20noon.";
        let body = format!("token={}&channel={channel}&text={text}", self.token);
        let answer = self.ask("POST", "/api/chat.postMessage", &body);
        assert_eq!(answer["ok"], true, "{answer}");
    }

    fn subscriber(&self, token: &str) -> TcpStream {
        let answer = self.ask("POST", "/api/rtm.connect", &format!("token={token}"));
        let url = answer["url"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let path = url.splitn(4, '/').nth(3).expect("a path");
        let mut socket = TcpStream::connect(self.ws).expect("a websocket");
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("a request");
        let mut end = [0; 1];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut end).expect("101");
            head.push(end[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        socket
    }

    /// What the scheduler gave the threads whose name begins so.
    fn cpu_ns(&self, name: &str) -> u64 {
        let tasks = format!("/proc/{}/task", self.process.id());
        let tasks = std::fs::read_dir(tasks).expect("its threads").flatten();
        let mut sum = 0;
        for task in tasks {
            let read = |what: &str| std::fs::read_to_string(task.path().join(what));
            if read("comm").is_ok_and(|comm| comm.starts_with(name))
                && let Ok(stat) = read("schedstat")
            {
                sum += stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        sum
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connected pairs on loopback, and a loop that writes the same bytes to all of them.
struct Plain {
    writers: Vec<TcpStream>,
    readers: Vec<TcpStream>,
}

impl Plain {
    fn new(count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            readers.push(TcpStream::connect(address).expect("a pair"));
            writers.push(listener.accept().expect("a pair").0);
        }
        Self { writers, readers }
    }

    /// CPU nanoseconds of one `send()`.
    fn round(&mut self, len: usize) -> f64 {
        let frame = vec![b'x'; len];
        let now = || {
            let now = clock_gettime(ClockId::ThreadCPUTime);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        let before = now();
        for _ in 0..MESSAGES {
            for socket in &self.writers {
                let sent = send(socket, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                assert_eq!(sent, Ok(len), "the buffers are large enough");
            }
        }
        let took = now() - before;
        let mut rest = vec![0; len * MESSAGES];
        for socket in &mut self.readers {
            socket.read_exact(&mut rest).expect("what was sent");
        }
        took as f64 / (self.writers.len() * MESSAGES) as f64
    }
}
