//! What a run is asked to be; nothing unchecked gets past this file.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// What is done to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// One channel, all connections in it
    Fanout,
    /// Many channels, each followed by some of the connections
    Channels,
    /// Many publications of one channel at once, each second
    Burst,
    /// Connections as fast as they are taken, or at a rate
    Connect,
    /// All connections drop at once and come back with their positions
    Resume,
    /// Connections that do nothing
    Idle,
    /// As many channels as are asked for, held
    Capacity,
    /// A workspace's day: channels of all sizes, messages, typing, people who come and go
    Mixed,
    /// As fanout, and some of the readers take 1 KB/s
    Slow,
}

/// How the server is talked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Dialect {
    /// Campanile, Centrifugo and servers made with the centrifuge library; JSON
    Centrifuge,
    /// Slack's RTM; connections and channels come from --tokens
    Rtm,
    /// Text frames "S channel" (answered by "s channel") and "P channel payload"
    Raw,
    /// NATS over websocket
    Nats,
    /// Pusher with client events on private channels
    Pusher,
}

/// Who follows which channel, and in which order channels are published to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Layout {
    /// Members and order by the seed
    Random,
    /// Neighbours share their channels
    Blocks,
    /// Members of a channel are as far apart as can be
    RoundRobin,
}

/// Load a server, check every delivery, and say what it cost
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[arg(value_enum, default_value = "fanout")]
    scenario: Scenario,
    #[arg(long, value_enum, default_value = "centrifuge")]
    dialect: Dialect,
    /// Where websockets are accepted, with the path [default: what the workspace says]; of several, each connection takes the next one.
    /// With rtm the path is that of each ticket
    #[arg(long, value_delimiter = ',')]
    url: Vec<String>,
    /// A running `campanile dev`, which says how to come in
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    workspace: String,
    /// The secret of connection tokens [default: the workspace's]
    #[arg(long)]
    token_secret: Option<String>,
    /// Users and their channels, as `campanile dev --users` writes them; for rtm, and for centrifuge where each user has a connection token
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The key and secret of the application, KEY:SECRET; for pusher
    #[arg(long, default_value = "app-key:app-secret")]
    app: String,
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Channels, in channels, capacity and mixed
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    channels: u32,
    /// Subscribers of each channel, in channels
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Publications a second, or connections in connect; 0: as many as can be
    #[arg(long)]
    rate: Option<f64>,
    /// Closed loop: publish when all but so many publications have arrived everywhere
    #[arg(long)]
    outstanding: Option<u32>,
    /// Publications of one connection that are not answered yet, where a server answers them
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Publications at once, in burst
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    burst: u32,
    /// Bytes of a publication's JSON
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    bytes: u32,
    /// Share of readers that take 1 KB/s, in slow
    #[arg(long, default_value_t = 0.01)]
    slow: f64,
    /// How long is published; SIGINT or SIGTERM ends it before
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds at the start of which latencies are not counted
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Who loses its connection comes again after a random pause, with its positions: what it gets then counts, once and in order, and a
    /// publication that was refused or never answered is owed to nobody unless somebody heard it
    #[arg(long)]
    reconnect: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value = "random")]
    layout: Layout,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Whose CPU time and memory is told
    #[arg(long)]
    server_pid: Option<u32>,
    /// Write the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A run, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub scenario: Scenario,
    pub dialect: Dialect,
    /// None: what the workspace says.
    pub urls: Vec<String>,
    pub workspace: String,
    pub token_secret: Option<String>,
    pub tokens: Option<PathBuf>,
    pub app: (String, String),
    pub connections: u32,
    pub channels: u32,
    pub subscribers: u32,
    /// Per second; `None`: as many as can be.
    pub rate: Option<f64>,
    pub outstanding: Option<u32>,
    pub window: u32,
    pub burst: u32,
    pub bytes: usize,
    pub slow: f64,
    pub duration: Duration,
    pub warm: Duration,
    pub reconnect: bool,
    pub seed: u64,
    pub layout: Layout,
    pub threads: u32,
    pub server_pid: Option<u32>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
}

impl Arguments {
    /// # Errors
    /// A sentence about words that do not go together.
    pub fn checked(self) -> Result<Config, String> {
        let Some((key, secret)) = self.app.split_once(':') else {
            return Err(format!("--app {}: not KEY:SECRET", self.app));
        };
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate < 0.0) {
            return Err("--rate: a number from 0 on".into());
        }
        if self.outstanding == Some(0) {
            return Err("--outstanding: at least 1".into());
        }
        if self.outstanding.is_some() && self.rate.is_some() {
            return Err("--rate is an open loop and --outstanding a closed one: choose".into());
        }
        if self.reconnect && (self.outstanding.is_some() || self.rate == Some(0.0)) {
            return Err(
                "--reconnect: only with an open loop, whose publications nobody waits for".into()
            );
        }
        if !(self.seconds > 0.0 && self.seconds < 1e6 && (0.0..1e6).contains(&self.warm)) {
            return Err("--seconds and --warm: how long".into());
        }
        if !(0.0..=1.0).contains(&self.slow) {
            return Err("--slow: a share between 0 and 1".into());
        }
        if self.dialect == Dialect::Rtm && self.tokens.is_none() {
            return Err(
                "--dialect rtm needs --tokens FILE, as `campanile dev --users` writes it".into()
            );
        }
        if self.scenario == Scenario::Resume && self.dialect != Dialect::Centrifuge {
            return Err("resume: only with --dialect centrifuge".into());
        }
        if ![Dialect::Centrifuge, Dialect::Rtm].contains(&self.dialect) && self.url.is_empty() {
            return Err("--url: where is the server?".into());
        }
        let usual = match self.scenario {
            Scenario::Channels | Scenario::Mixed => 1_000.0,
            Scenario::Connect => 0.0,
            _ => 100.0,
        };
        let rate = self.rate.unwrap_or(usual);
        Ok(Config {
            scenario: self.scenario,
            dialect: self.dialect,
            urls: self.url,
            workspace: self.workspace.trim_end_matches('/').into(),
            token_secret: self.token_secret,
            tokens: self.tokens,
            app: (key.into(), secret.into()),
            connections: self.connections,
            channels: self.channels,
            subscribers: self.subscribers.min(self.connections),
            rate: (rate > 0.0).then_some(rate),
            outstanding: self.outstanding,
            window: self.window,
            burst: self.burst,
            bytes: self.bytes as usize,
            slow: self.slow,
            duration: Duration::from_secs_f64(self.seconds),
            warm: Duration::from_secs_f64(self.warm.min(self.seconds / 2.0)),
            reconnect: self.reconnect,
            seed: self.seed,
            layout: self.layout,
            threads: self.threads,
            server_pid: self.server_pid,
            json: self.json,
            html: self.html,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: Arguments,
    }

    fn config(words: &str) -> Result<Config, String> {
        let words = std::iter::once("load").chain(words.split_whitespace());
        Line::try_parse_from(words).map_err(|error| error.to_string())?.load.checked()
    }

    #[test]
    fn without_a_word_it_is_a_fan_out_to_a_thousand() {
        let config = config("").expect("the defaults");
        assert_eq!((config.scenario, config.connections), (Scenario::Fanout, 1_000));
        assert_eq!((config.rate, config.outstanding), (Some(100.0), None));
    }

    #[test]
    fn words_that_do_not_go_together_are_refused() {
        for words in [
            "nonsense",
            "--rate -1",
            "--rate 5 --outstanding 1",
            "--outstanding 0",
            "--dialect rtm",
            "--dialect nats",
            "--app secret",
            "--slow 2",
            "--seconds 0",
            "resume --dialect raw --url ws://127.0.0.1:1",
            "--reconnect --outstanding 8",
            "--reconnect --rate 0",
        ] {
            assert!(config(words).is_err(), "{words}");
        }
    }
}
