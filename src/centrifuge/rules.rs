//! What may be done in which channel, and by whom: the part of an operator's configuration that sessions ask.

use std::borrow::Cow;
use std::time::Duration;

use regex::Regex;
use serde_json::value::RawValue;

use super::code::Fault;
use super::rpc::Rpc;
use super::token::Keys;

/// Per node, the same for all cores. Made by `config`.
#[derive(Clone, Debug)]
pub struct Rules {
    pub client: Client,
    pub api: Api,
    /// `None`: nobody answers a method.
    pub rpc: Option<Rpc>,
    /// What a workspace's member may do is the back end's to say: see `WORKSPACE`.
    pub(super) without_namespace: Options,
    pub(super) namespaces: Vec<(Box<str>, Options)>,
}

/// Section `client`.
#[derive(Clone, Debug)]
pub struct Client {
    /// Nobody needs a token, and everything that is not switched off is allowed.
    pub insecure: bool,
    /// Who has no token is nobody in particular, and may come in.
    pub allows_anonymous: bool,
    pub keys: Keys,
    /// Channels of one connection.
    pub channels_max: u32,
    /// Bytes of a channel's name.
    pub name_bytes_max: u32,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    /// From the first byte to `connect`.
    pub connect_timeout: Duration,
    /// How long a connection or a subscription whose token expired waits for another.
    pub expiry_grace: Duration,
    /// `None`: any.
    pub origins: Option<Vec<Box<str>>>,
    /// Whether each user's connections are subscribed to `#user`.
    pub has_personal_channel: bool,
}

/// Section `http_api`.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// Without a key nobody may call, unless it is insecure.
    pub key: Option<Box<str>>,
    pub insecure: bool,
}

/// Who may do one thing in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allow {
    pub client: bool,
    pub subscriber: bool,
    pub anonymous: bool,
}

/// What a namespace's channels are like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Publications that can be asked for again; 0: the channel has no stream.
    pub history_count: u32,
    pub history_ttl: Duration,
    pub force_recovery: bool,
    /// Whoever comes back is given the newest publication only.
    pub is_cache: bool,
    /// The same for whoever comes, unasked.
    pub auto_cache_recover: bool,
    pub allow_tags_filter: bool,
    /// The part of a name behind the namespace; without it a name is printable ASCII.
    pub channel_regex: Option<Regex>,
    pub allow_recovery: bool,
    pub force_positioning: bool,
    pub allow_positioning: bool,
    pub presence: bool,
    pub join_leave: bool,
    pub force_push_join_leave: bool,
    /// Whether a client may ask for patches, and whether each publication may be one.
    pub allow_fossil: bool,
    pub delta_publish: bool,
    /// What is no JSON is refused, whoever publishes it.
    pub is_json_only: bool,
    /// Names with a `#` are for the users behind it.
    pub allow_user_limited_channels: bool,
    pub subscribe: Allow,
    pub publish: Allow,
    pub show_presence: Allow,
    pub history: Allow,
}

impl Options {
    pub fn has_stream(&self) -> bool {
        self.history_count > 0 && !self.history_ttl.is_zero()
    }

    /// For how many seconds from its last publication on a stream's past is kept; 0: as long as there is room.
    pub fn kept_s(&self) -> u32 {
        let seconds = self.history_ttl.as_secs() + u64::from(self.history_ttl.subsec_nanos() > 0);
        if self.has_stream() { u32::try_from(seconds).unwrap_or(0) } else { 0 }
    }
}

/// A channel's name, taken apart (`centrifuge.md` 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    pub whole: &'a str,
    /// Between the leading `$` and the first `:`.
    pub namespace: Option<&'a str>,
    /// Only with a token of its own.
    pub is_private: bool,
    /// After the last `#`: the users, separated by commas, whose channel it is.
    pub users: Option<&'a str>,
}

impl<'a> Name<'a> {
    /// `None`: no channel can have this name.
    pub fn read(whole: &'a str, bytes_max: u32) -> Option<Self> {
        if whole.is_empty() || whole.len() > bytes_max as usize {
            return None;
        }
        let rest = whole.strip_prefix('$');
        let is_private = rest.is_some();
        let namespace = rest.unwrap_or(whole).split_once(':').map(|(namespace, _)| namespace);
        let users = whole.rsplit_once('#').map(|(_, users)| users);
        Some(Self { whole, namespace, is_private, users })
    }

    /// Behind the namespace.
    pub fn rest(&self) -> &'a str {
        let bare = self.whole.strip_prefix('$').unwrap_or(self.whole);
        self.namespace.map_or(bare, |namespace| &bare[namespace.len() + 1..])
    }

    /// The id of the workspace's conversation, if it is one.
    pub fn conversation(&self) -> Option<&'a str> {
        self.whole.strip_prefix(WORKSPACE_PREFIX)
    }

    pub fn is_of_user(&self, user: &str) -> bool {
        !user.is_empty() && self.users.is_some_and(|list| list.split(',').any(|one| one == user))
    }
}

/// Who wants something: as much of a session as rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub user: &'a str,
    pub is_subscribed: bool,
}

impl Rules {
    /// The options of a channel that may have this name.
    ///
    /// # Errors
    /// `UnknownChannel`: there is no such namespace. `BadRequest`: no channel of it has such a name.
    pub fn options_of(&self, name: &Name<'_>) -> Result<&Options, Fault> {
        let options = self.options(name).ok_or(Fault::UnknownChannel)?;
        let is_fine = match &options.channel_regex {
            Some(regex) => regex.is_match(name.rest()),
            None => name.whole.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
        };
        if is_fine { Ok(options) } else { Err(Fault::BadRequest) }
    }

    /// The options of a channel; `None`: there is no such namespace.
    pub fn options(&self, name: &Name<'_>) -> Option<&Options> {
        let Some(namespace) = name.namespace else { return Some(&self.without_namespace) };
        if name.conversation().is_some() {
            return Some(&WORKSPACE);
        }
        self.namespaces.iter().find(|(known, _)| **known == *namespace).map(|(_, options)| options)
    }

    /// Whether somebody may do what `allow` is about.
    pub fn allows(&self, allow: Allow, asker: Asker<'_>) -> bool {
        self.client.insecure
            || (asker.user.is_empty() && allow.anonymous)
            || (!asker.user.is_empty() && allow.client)
            || (asker.is_subscribed && allow.subscriber)
    }

    /// Whether somebody may subscribe without a token of the channel.
    pub fn may_subscribe(&self, name: &Name<'_>, options: &Options, user: &str) -> bool {
        if name.is_private {
            return false;
        }
        if options.allow_user_limited_channels && name.users.is_some() && !self.client.insecure {
            return name.is_of_user(user);
        }
        self.allows(options.subscribe, Asker { user, is_subscribed: false })
    }

    /// How a channel is called inside: a memory channel by a name that no conversation has, a conversation by its id.
    pub fn inside(name: &str) -> String {
        match name.strip_prefix(WORKSPACE_PREFIX) {
            Some(id) => id.into(),
            None => format!("{MEMORY}{name}"),
        }
    }

    /// The name that clients know.
    pub fn outside(inside: &str) -> Cow<'_, str> {
        match inside.strip_prefix(MEMORY) {
            Some(name) => name.into(),
            None => format!("{WORKSPACE_PREFIX}{inside}").into(),
        }
    }

    /// Whether the owner counts this channel's publications, and not the back end.
    pub fn is_memory(inside: &str) -> bool {
        inside.starts_with(MEMORY)
    }
}

const WORKSPACE_PREFIX: &str = "workspace:";
/// The workspace's conversations: for their members, whom the back end knows.
static WORKSPACE: Options = Options {
    history_count: 10_000,
    history_ttl: Duration::MAX,
    force_recovery: true,
    force_positioning: true,
    is_cache: false,
    auto_cache_recover: false,
    allow_tags_filter: false,
    channel_regex: None,
    is_json_only: true,
    allow_recovery: false,
    allow_positioning: false,
    presence: false,
    join_leave: false,
    force_push_join_leave: false,
    allow_fossil: false,
    delta_publish: false,
    allow_user_limited_channels: false,
    subscribe: NOBODY,
    publish: Allow { subscriber: true, ..NOBODY },
    show_presence: NOBODY,
    history: NOBODY,
};
const NOBODY: Allow = Allow { client: false, subscriber: false, anonymous: false };

/// The same JSON without a line break. `None`: it is not JSON.
pub fn one_line(data: &[u8]) -> Option<Vec<u8>> {
    let raw: &RawValue = serde_json::from_slice(data).ok()?;
    let text = raw.get();
    // A line break within a JSON text is white space.
    Some(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect())
}

/// Ids of a workspace begin with a letter.
const MEMORY: char = '.';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let read = |text| Name::read(text, 255).expect("a name");
        assert_eq!((read("a").namespace, read("a").is_private), (None, false));
        assert_eq!((read("$n:a:b").namespace, read("$n:a:b").is_private), (Some("n"), true));
        assert!(read("n:x#4,42").is_of_user("42") && !read("n:x#4,42").is_of_user("2"));
        assert!(!read("#").is_of_user(""));
        assert_eq!(Name::read("", 9), None);
        assert_eq!(Name::read("0123456789", 9), None);
        assert_eq!((read("$n:a:b").rest(), read("a").rest(), read("n:").rest()), ("a:b", "a", ""));
        for name in ["a:1", "workspace:C0123"] {
            assert_eq!(Rules::outside(&Rules::inside(name)), name);
        }
        assert!(Rules::is_memory(&Rules::inside("C0123")));
        assert_eq!(Rules::inside("workspace:C0123"), "C0123");
    }
}
