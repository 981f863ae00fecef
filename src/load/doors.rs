//! How each connection comes in: where to, and with which token.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

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
    place: Option<Place>,
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
        let place = config.url.as_deref().map(Place::read).transpose()?;
        let mut workspace = Self { place, web_api: config.workspace.clone(), ..Self::default() };
        match config.dialect {
            Dialect::Centrifuge => {
                workspace.secret.clone_from(&config.token_secret);
                if workspace.place.is_none() {
                    let address = format!("{}/dev/workspace.json", config.workspace);
                    let fault = |error: ureq::Error| {
                        format!(
                            "{address}: {error}; start `campanile dev`, or say --url and --token-secret"
                        )
                    };
                    let mut answer = ureq::get(&address).call().map_err(fault)?;
                    let told: Value = answer.body_mut().read_json().map_err(fault)?;
                    let text = |name: &str| told["centrifuge"][name].as_str().unwrap_or_default();
                    workspace.place = Some(Place::read(text("url"))?);
                    workspace.secret.get_or_insert_with(|| text("token_secret").into());
                }
            }
            Dialect::Rtm => {
                let file = config.tokens.as_ref().expect("checked");
                let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
                let text = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
                let File { publisher, channels, users } =
                    serde_json::from_str(&text).map_err(|error| fault(&error))?;
                let is_wild = |user: &User| {
                    user.channels.iter().any(|channel| *channel as usize >= channels.len())
                };
                if users.is_empty() || users.iter().any(is_wild) {
                    return Err(fault(&"no users, or channels that are not there"));
                }
                (workspace.publisher, workspace.channels) = (publisher, channels);
                let (tokens, members) =
                    users.into_iter().map(|user| (user.token, user.channels)).unzip();
                (workspace.tokens, workspace.members) = (tokens, Some(members));
            }
            Dialect::Raw | Dialect::Nats | Dialect::Pusher => {}
        }
        Ok(workspace)
    }

    /// Where the connection with this number goes; `None`: each has a place of its own, from the doorman.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// What a connection says who it is; empty: it need not.
    pub(super) fn token(&self, conn: u32) -> String {
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

/// Asks `rtm.connect` for those who wait at the door, some at a time.
#[derive(Debug)]
pub(super) struct Doorman {
    /// Answers, by the number of the connection.
    answers: Receiver<(u32, Result<Place, String>)>,
    questions: SyncSender<u32>,
}

/// Threads that ask, and questions that wait: the boots of a second are bounded at the server.
const THREADS: usize = 4;
const WAITING_MAX: usize = 1_024;

impl Doorman {
    pub(super) fn new(workspace: &Arc<Workspace>) -> Self {
        let (questions, asked) = sync_channel(WAITING_MAX);
        let (answer, answers) = sync_channel(WAITING_MAX);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..THREADS {
            let (asked, answer) = (Arc::clone(&asked), answer.clone());
            let workspace = Arc::clone(workspace);
            std::thread::spawn(move || {
                let agent = ureq::Agent::new_with_defaults();
                loop {
                    let next =
                        asked.lock().map_err(drop).and_then(|asked| asked.recv().map_err(drop));
                    let Ok(conn) = next else { return };
                    let place = knock(&agent, &workspace, workspace.token_of_user(conn));
                    if answer.send((conn, place)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { answers, questions }
    }

    /// False: later.
    pub(super) fn ask(&self, conn: u32) -> bool {
        self.questions.try_send(conn).is_ok()
    }

    pub(super) fn answer(&self) -> Option<(u32, Result<Place, String>)> {
        self.answers.try_recv().ok()
    }
}

fn knock(agent: &ureq::Agent, workspace: &Workspace, token: &str) -> Result<Place, String> {
    let address = format!("{}/api/rtm.connect", workspace.web_api);
    let authorization = format!("Bearer {token}");
    let answer = agent.post(&address).header("authorization", &authorization).send_empty();
    let mut answer = answer.map_err(|error| format!("rtm.connect: {error}"))?;
    let told: Value =
        answer.body_mut().read_json().map_err(|error| format!("rtm.connect: {error}"))?;
    match told["url"].as_str() {
        Some(url) => Place::read(url),
        None => Err(format!("rtm.connect: {told}")),
    }
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
