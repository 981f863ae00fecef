//! How each connection comes in: where to, and with which token.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::{Config, Dialect};

/// Where a websocket is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

/// What the server, or a file, says about who may come.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// Each connection takes the next one.
    places: Vec<Place>,
    /// Each has a path of its own, from the doorman.
    has_doorman: bool,
    secret: Option<String>,
    pub(super) channels: Vec<String>,
    /// The channels of each connection, where they are given and not drawn.
    pub(super) members: Option<Vec<Vec<u32>>>,
    /// Of each connection, and of who publishes.
    tokens: Vec<String>,
    publisher: String,
    web_api: String,
}

/// As `campanile dev --users` writes it.
#[derive(Deserialize)]
struct File {
    /// Is in all channels, and publishes.
    publisher: String,
    channels: Vec<String>,
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    token: String,
    /// Numbers in `channels`.
    channels: Vec<u32>,
}

impl Place {
    /// # Errors
    /// A sentence: it is no address of a websocket.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let fault = |why: &str| format!("{url}: {why}");
        let uri: ureq::http::Uri = url.parse().map_err(|_| fault("no address"))?;
        if uri.scheme_str() != Some("ws") {
            return Err(fault("begins with ws://; TLS is the proxy's"));
        }
        let host = uri.host().ok_or_else(|| fault("no host"))?.trim_matches(['[', ']']).into();
        let path = uri.path_and_query().map_or("/", ureq::http::uri::PathAndQuery::as_str).into();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), path })
    }
}

impl Workspace {
    /// # Errors
    /// A sentence: what is not there, or says nothing that helps.
    pub(super) fn open(config: &Config) -> Result<Self, String> {
        let mut workspace = Self {
            places: config.urls.iter().map(|url| Place::read(url)).collect::<Result<_, _>>()?,
            has_doorman: config.dialect == Dialect::Rtm,
            web_api: config.workspace.clone(),
            ..Self::default()
        };
        if let Some(file) = &config.tokens {
            workspace.read(file)?;
        }
        match config.dialect {
            Dialect::Centrifuge => {
                workspace.secret.clone_from(&config.token_secret);
                if workspace.places.is_empty() {
                    let address = format!("{}/dev/workspace.json", config.workspace);
                    let fault = |error: ureq::Error| {
                        format!(
                            "{address}: {error}; start `campanile dev`, or say --url and --token-secret"
                        )
                    };
                    let mut answer = ureq::get(&address).call().map_err(fault)?;
                    let told: Value = answer.body_mut().read_json().map_err(fault)?;
                    let text = |name: &str| told["centrifuge"][name].as_str().unwrap_or_default();
                    workspace.places.push(Place::read(text("url"))?);
                    workspace.secret.get_or_insert_with(|| text("token_secret").into());
                }
            }
            Dialect::Rtm | Dialect::Raw | Dialect::Nats | Dialect::Pusher => {}
        }
        Ok(workspace)
    }

    fn read(&mut self, file: &Path) -> Result<(), String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
        let File { publisher, channels, users } =
            serde_json::from_str(&text).map_err(|error| fault(&error))?;
        let is_wild =
            |user: &User| user.channels.iter().any(|channel| *channel as usize >= channels.len());
        if users.is_empty() || users.iter().any(is_wild) {
            return Err(fault(&"no users, or channels that are not there"));
        }
        (self.publisher, self.channels) = (publisher, channels);
        let (tokens, members) = users.into_iter().map(|user| (user.token, user.channels)).unzip();
        (self.tokens, self.members) = (tokens, Some(members));
        Ok(())
    }

    /// Where a connection goes that takes the `turn`-th place; `None`: the doorman says it.
    pub(super) fn place(&self, turn: u32) -> Option<&Place> {
        if self.has_doorman { None } else { self.turn(turn) }
    }

    fn turn(&self, turn: u32) -> Option<&Place> {
        self.places.get(turn as usize % self.places.len().max(1))
    }

    /// The place of a ticket, at the host whose turn it is.
    pub(super) fn at_host(&self, turn: u32, mut place: Place) -> Place {
        if let Some(Place { host, port, .. }) = self.turn(turn) {
            (place.host, place.port) = (host.clone(), *port);
        }
        place
    }

    /// Whether channels and members are given.
    pub(super) fn is_given(&self) -> bool {
        self.members.is_some()
    }

    /// What a connection says who it is; empty: it need not.
    pub(super) fn token(&self, conn: u32) -> String {
        if self.is_given() {
            return self.token_of_user(conn).into();
        }
        let Some(secret) = self.secret.as_deref().filter(|secret| !secret.is_empty()) else {
            return String::new();
        };
        let claims = json!({ "sub": format!("load-{conn}") });
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::default(), &claims, &key).expect("a claim is signed")
    }

    fn token_of_user(&self, conn: u32) -> &str {
        self.tokens.get(conn as usize).unwrap_or(&self.publisher)
    }
}

/// What `rtm.connect` answers: where to, and the tip of each channel.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) place: Place,
    pub(super) tips: Vec<(String, u64)>,
}

/// Whether a client says where it stands before it is given anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coming {
    Live,
    Resuming,
}

/// Asks `rtm.connect` for those who wait at the door, some at a time.
#[derive(Debug)]
pub(super) struct Doorman {
    /// Answers, by the number of the connection.
    answers: Receiver<(u32, Result<Ticket, String>)>,
    questions: SyncSender<(u32, Coming)>,
}

/// Threads that ask, and questions that wait: the boots of a second are bounded at the server.
const THREADS: usize = 4;
const WAITING_MAX: usize = 1_024;
/// A webapp that does not answer may be gone.
const PATIENCE: Duration = Duration::from_secs(20);

impl Doorman {
    pub(super) fn new(workspace: &Arc<Workspace>) -> Self {
        let (questions, asked) = sync_channel(WAITING_MAX);
        let (answer, answers) = sync_channel(WAITING_MAX);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..THREADS {
            let (asked, answer) = (Arc::clone(&asked), answer.clone());
            let workspace = Arc::clone(workspace);
            std::thread::spawn(move || {
                let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
                let agent = ureq::Agent::from(config.build());
                loop {
                    let next =
                        asked.lock().map_err(drop).and_then(|asked| asked.recv().map_err(drop));
                    let Ok((conn, coming)) = next else { return };
                    let ticket = knock(&agent, &workspace, workspace.token_of_user(conn), coming);
                    if answer.send((conn, ticket)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { answers, questions }
    }

    /// False: later.
    pub(super) fn ask(&self, conn: u32, coming: Coming) -> bool {
        self.questions.try_send((conn, coming)).is_ok()
    }

    pub(super) fn answer(&self) -> Option<(u32, Result<Ticket, String>)> {
        self.answers.try_recv().ok()
    }
}

fn knock(
    agent: &ureq::Agent,
    workspace: &Workspace,
    token: &str,
    coming: Coming,
) -> Result<Ticket, String> {
    let fault = |error: ureq::Error| format!("rtm.connect: {error}");
    let address = format!("{}/api/rtm.connect", workspace.web_api);
    let authorization = format!("Bearer {token}");
    let question = agent.post(&address).header("authorization", &authorization);
    let answer = match coming {
        Coming::Live => question.send_empty(),
        Coming::Resuming => question.send_json(json!({ "resume": true })),
    };
    let told: Value = answer.map_err(fault)?.body_mut().read_json().map_err(fault)?;
    let Some(url) = told["url"].as_str() else { return Err(format!("rtm.connect: {told}")) };
    let tips = told["positions"].as_object().into_iter().flatten();
    let tips = tips.filter_map(|(name, tip)| Some((name.clone(), tip.as_u64()?)));
    Ok(Ticket { place: Place::read(url)?, tips: tips.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let place = Place::read("ws://127.0.0.1:8081/connection/websocket?a=1").expect("a place");
        assert_eq!(
            (&*place.host, place.port, &*place.path),
            ("127.0.0.1", 8081, "/connection/websocket?a=1")
        );
        assert_eq!(Place::read("ws://[::1]:9").expect("a place").path, "/");
        for wrong in ["http://a/", "wss://a/", "a", "ws://"] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
    }
}
