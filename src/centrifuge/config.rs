//! The sections `client`, `http_api` and `channel` of a configuration file, named, nested and meaning as in Centrifugo v6.
//!
//! A key that Centrifugo knows and we do not serve is a warning, any other an error: nobody believes in a setting that does nothing.

use std::time::Duration;

use regex::Regex;
use serde_json::{Map, Value};

use super::rpc::Rpc;
use super::rules::{Allow, Api, Client, Options, Rules};
use super::token::Keys;

/// Rules, and what of the file does nothing.
#[derive(Debug)]
pub struct Read {
    pub rules: Rules,
    pub warnings: Vec<String>,
}

/// Reads a whole configuration.
///
/// # Errors
/// A sentence that names the key.
pub fn read(root: Value) -> Result<Read, String> {
    let mut warnings = Vec::new();
    let mut root = Section::new("", root)?;
    let client = client(root.section("client")?, &mut warnings)?;
    let api = api(root.section("http_api")?, &mut warnings)?;
    let mut channel = root.section("channel")?;
    let without_namespace = options(channel.section("without_namespace")?, &mut warnings)?;
    let mut namespaces = Vec::new();
    for one in channel.list("namespaces")? {
        let mut section = Section::new("channel.namespaces.", one)?;
        let name = section.text("name")?.unwrap_or_default();
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name == "workspace" {
            return Err("channel.namespaces.name: \"workspace\" is the workspace's".into());
        }
        if name.len() < 2 || !name.bytes().all(is_fine) {
            return Err(format!("channel.namespaces.name: {name:?} is no name of a namespace"));
        }
        if namespaces.iter().any(|(known, _): &(Box<str>, Options)| **known == *name) {
            return Err(format!("channel.namespaces.name: {name:?} is there twice"));
        }
        namespaces.push((name.into(), options(section, &mut warnings)?));
    }
    channel.end(CHANNEL_UNSERVED, &mut warnings)?;
    let rpc = rpc(root.section("rpc")?, &mut warnings)?;
    root.end(ROOT_UNSERVED, &mut warnings)?;
    Ok(Read { rules: Rules { client, api, rpc, without_namespace, namespaces }, warnings })
}

impl Default for Rules {
    /// An empty file: nobody without a token comes in, nobody may do anything.
    fn default() -> Self {
        read(Map::new().into()).expect("nothing wrong in nothing").rules
    }
}

/// What `dev` serves when it is given no file: streams, presence and joins everywhere, and users may do what they like.
pub fn dev() -> Value {
    serde_json::json!({
        "client": { "allowed_origins": ["*"], "channel_limit": 1_000 },
        "channel": { "without_namespace": {
            "history_size": 1_000, "history_ttl": "1h", "force_recovery": true,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true,
            "allow_history_for_client": true, "publication_data_format": "json", "allowed_delta_types": ["fossil"], "presence": true, "allow_presence_for_client": true,
        } },
    })
}

fn client(mut section: Section, warnings: &mut Vec<String>) -> Result<Client, String> {
    let mut token = section.section("token")?;
    let keys = Keys::new(
        token.text("hmac_secret_key")?.as_deref(),
        token.text("rsa_public_key")?.as_deref(),
        token.text("ecdsa_public_key")?.as_deref(),
        token.text("audience")?,
        token.text("issuer")?,
    )
    .map_err(|why| format!("client.token: {why}"))?;
    token.end(TOKEN_UNSERVED, warnings)?;
    let mut personal = section.section("subscribe_to_user_personal_channel")?;
    let has_personal_channel = personal.flag("enabled")?;
    personal.end(&["personal_channel_namespace", "single_connection"], warnings)?;
    let origins = section.list("allowed_origins")?.into_iter().map(|origin| match origin {
        Value::String(origin) => Ok(origin.into()),
        other => Err(format!("client.allowed_origins: {other} is no origin")),
    });
    let origins: Vec<Box<str>> = origins.collect::<Result<_, String>>()?;
    let is_any = origins.is_empty() || origins.iter().any(|origin| &**origin == "*");
    let client = Client {
        insecure: section.flag("insecure")?,
        allows_anonymous: section.flag("allow_anonymous_connect_without_token")?,
        keys,
        channels_max: section.number("channel_limit")?.unwrap_or(128),
        name_bytes_max: section.number("channel_max_length")?.unwrap_or(NAME_BYTES_MAX),
        ping_interval: section.span("ping_interval")?.unwrap_or(Duration::from_secs(25)),
        pong_timeout: section.span("pong_timeout")?.unwrap_or(Duration::from_secs(8)),
        connect_timeout: section.span("stale_close_delay")?.unwrap_or(Duration::from_secs(10)),
        expiry_grace: section.span("expired_close_delay")?.unwrap_or(Duration::from_secs(25)),
        origins: (!is_any).then_some(origins),
        has_personal_channel,
    };
    section.end(CLIENT_UNSERVED, warnings)?;
    if client.name_bytes_max > NAME_BYTES_MAX {
        return Err(format!("client.channel_max_length: at most {NAME_BYTES_MAX}"));
    }
    if client.ping_interval < Duration::from_secs(1) || client.pong_timeout >= client.ping_interval
    {
        return Err("client.ping_interval: whole seconds, and longer than pong_timeout".into());
    }
    Ok(client)
}

fn api(mut section: Section, warnings: &mut Vec<String>) -> Result<Api, String> {
    let key = section.text("key")?.filter(|key| !key.is_empty()).map(Into::into);
    let api = Api { key, insecure: section.flag("insecure")? };
    section.end(API_UNSERVED, warnings)?;
    Ok(api)
}

fn rpc(mut section: Section, warnings: &mut Vec<String>) -> Result<Option<Rpc>, String> {
    let mut proxy = section.section("proxy")?;
    let endpoint = proxy.text("endpoint")?.filter(|endpoint| !endpoint.is_empty());
    let timeout = proxy.span("timeout")?.unwrap_or(RPC_TIMEOUT);
    proxy.end(PROXY_UNSERVED, warnings)?;
    let mut without = section.section("without_namespace")?;
    let without_namespace = without.flag("proxy_enabled")?;
    without.end(&["proxy_name"], warnings)?;
    let mut namespaces: Vec<Box<str>> = Vec::new();
    for one in section.list("namespaces")? {
        let mut one = Section::new("rpc.namespaces.", one)?;
        let name = one.text("name")?.unwrap_or_default();
        if one.flag("proxy_enabled")? {
            namespaces.push(name.into());
        }
        one.end(&["proxy_name"], warnings)?;
    }
    section.end(&["namespace_boundary", "ping"], warnings)?;
    let is_wanted = without_namespace || !namespaces.is_empty();
    match endpoint {
        None if is_wanted => Err("rpc.proxy.endpoint: which back end answers?".into()),
        Some(endpoint) if !endpoint.starts_with("http://") => Err(format!(
            "rpc.proxy.endpoint: {endpoint:?} does not begin with http:// (TLS is the proxy's)"
        )),
        Some(_) if timeout.is_zero() || timeout > RPC_TIMEOUT_MAX => {
            Err(format!("rpc.proxy.timeout: up to {} s", RPC_TIMEOUT_MAX.as_secs()))
        }
        Some(endpoint) => {
            let endpoint = endpoint.into();
            Ok(Some(Rpc { endpoint, timeout, without_namespace, namespaces }))
        }
        None => Ok(None),
    }
}

fn options(mut section: Section, warnings: &mut Vec<String>) -> Result<Options, String> {
    let allow = |section: &mut Section, what: &str| -> Result<Allow, String> {
        Ok(Allow {
            client: section.flag(&format!("allow_{what}_for_client"))?,
            subscriber: what != "subscribe"
                && section.flag(&format!("allow_{what}_for_subscriber"))?,
            anonymous: section.flag(&format!("allow_{what}_for_anonymous"))?,
        })
    };
    let deltas = section.list("allowed_delta_types")?;
    if deltas.iter().any(|one| one != "fossil") {
        return Err("channel: allowed_delta_types: there is only \"fossil\"".into());
    }
    let format = section.text("publication_data_format")?.unwrap_or_default();
    if !["", "json", "binary"].contains(&&*format) {
        return Err(format!(
            "channel: publication_data_format: {format:?} is neither json nor binary"
        ));
    }
    let mode = section.text("force_recovery_mode")?.unwrap_or_default();
    if !["", "stream", "cache"].contains(&&*mode) {
        return Err(format!("channel: force_recovery_mode: {mode:?} is neither stream nor cache"));
    }
    let channel_regex = section.text("channel_regex")?.filter(|text| !text.is_empty());
    let channel_regex = channel_regex.map(|text| Regex::new(&text)).transpose();
    let channel_regex = channel_regex.map_err(|why| format!("channel: channel_regex: {why}"))?;
    let options = Options {
        allow_fossil: !deltas.is_empty(),
        delta_publish: section.flag("delta_publish")?,
        is_json_only: format == "json",
        history_count: section.number("history_size")?.unwrap_or(0),
        history_ttl: section.span("history_ttl")?.unwrap_or_default(),
        force_recovery: section.flag("force_recovery")?,
        is_cache: mode == "cache",
        auto_cache_recover: section.flag("auto_cache_recover")?,
        allow_tags_filter: section.flag("allow_tags_filter")?,
        channel_regex,
        allow_recovery: section.flag("allow_recovery")?,
        force_positioning: section.flag("force_positioning")?,
        allow_positioning: section.flag("allow_positioning")?,
        presence: section.flag("presence")?,
        join_leave: section.flag("join_leave")?,
        force_push_join_leave: section.flag("force_push_join_leave")?,
        allow_user_limited_channels: section.flag("allow_user_limited_channels")?,
        subscribe: allow(&mut section, "subscribe")?,
        publish: allow(&mut section, "publish")?,
        show_presence: allow(&mut section, "presence")?,
        history: allow(&mut section, "history")?,
    };
    section.end(OPTIONS_UNSERVED, warnings)?;
    if options.force_recovery && !options.has_stream() {
        return Err("channel: force_recovery needs history_size and history_ttl".into());
    }
    Ok(options)
}

/// Names inside have one byte more, and a byte holds their length.
const NAME_BYTES_MAX: u32 = 254;

const RPC_TIMEOUT: Duration = Duration::from_secs(1);
/// Then the gateway has given up: see `Limits::ask_timeout`.
const RPC_TIMEOUT_MAX: Duration = Duration::from_secs(9);

const ROOT_UNSERVED: &[&str] = &[
    "admin",
    "broker",
    "consumers",
    "debug",
    "emulation",
    "engine",
    "graceful_shutdown",
    "graphite",
    "grpc_api",
    "health",
    "http_server",
    "http_stream",
    "log",
    "node",
    "opentelemetry",
    "pprof",
    "presence_manager",
    "prometheus",
    "proxies",
    "shutdown",
    "sse",
    "swagger",
    "uni_grpc",
    "uni_http_stream",
    "uni_sse",
    "uni_websocket",
    "usage_stats",
    "websocket",
    "webtransport",
    "address",
    "port",
    "name",
];
const CLIENT_UNSERVED: &[&str] = &[
    "client_id_http_header",
    "concurrency",
    "connect_code_to_http_response",
    "connect_include_server_time",
    "connection_limit",
    "connection_rate_limit",
    "disallow_anonymous_connection_tokens",
    "expired_sub_close_delay",
    "history_max_publication_limit",
    "proxy",
    "queue_max_size",
    "recovery_max_publication_limit",
    "subscription_token",
    "user_connection_limit",
    "user_id_http_header",
    "allow_anonymous",
    "insecure_skip_token_signature_verify",
];
const TOKEN_UNSERVED: &[&str] = &[
    "audience_regex",
    "hmac_previous_secret_key",
    "hmac_previous_secret_key_valid_until",
    "issuer_regex",
    "jwks",
    "user_id_claim",
];
const API_UNSERVED: &[&str] = &["disabled", "error_mode", "external", "handler_prefix"];
const PROXY_UNSERVED: &[&str] = &["grpc", "http", "http_headers", "include_connection_meta"];
const CHANNEL_UNSERVED: &[&str] = &[
    "history_meta_ttl",
    "max_length",
    "namespace_boundary",
    "private_prefix",
    "proxy",
    "user_boundary",
    "user_separator",
];
const OPTIONS_UNSERVED: &[&str] = &[
    "history_meta_ttl",
    "map",
    "publish_proxy_enabled",
    "publish_proxy_name",
    "shared_position_sync",
    "shared_poll",
    "sub_refresh_proxy_enabled",
    "sub_refresh_proxy_name",
    "subscribe_proxy_enabled",
    "subscribe_proxy_name",
    "subscribe_stream_proxy_enabled",
    "subscribe_stream_proxy_name",
    "subscription_type",
];

/// One object of the file: what is read is taken out, so that `end` sees what nobody read.
struct Section {
    path: String,
    map: Map<String, Value>,
}

impl Section {
    fn new(path: &str, value: Value) -> Result<Self, String> {
        match value {
            Value::Object(map) => Ok(Self { path: path.into(), map }),
            other => Err(format!("{}: {other} is no section", path.trim_end_matches('.'))),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, key: &str, value: &Value, wanted: &str) -> Result<T, String> {
        Err(format!("{}{key}: {value} is not {wanted}", self.path))
    }

    fn section(&mut self, key: &str) -> Result<Self, String> {
        let value = self.take(key).unwrap_or_else(|| Map::new().into());
        Self::new(&format!("{}{key}.", self.path), value)
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>, String> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => self.wrong(key, &other, "a list"),
        }
    }

    fn flag(&mut self, key: &str) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => self.wrong(key, &other, "true or false"),
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, &other, "a text"),
        }
    }

    fn number(&mut self, key: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => self.wrong(key, &value, "a whole number"),
        }
    }

    fn span(&mut self, key: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_str().and_then(span) {
            Some(span) => Ok(Some(span)),
            None => self.wrong(key, &value, "a time such as \"300s\" or \"1h30m\""),
        }
    }

    /// What nobody read.
    fn end(self, unserved: &[&str], warnings: &mut Vec<String>) -> Result<(), String> {
        for key in self.map.keys() {
            if !unserved.contains(&key.as_str()) {
                return Err(format!("{}{key}: there is no such setting", self.path));
            }
            warnings.push(format!("{}{key} is not served here and does nothing", self.path));
        }
        Ok(())
    }
}

/// `1h30m`, `300s`, `500ms`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::centrifuge::rules::Name;

    #[test]
    fn the_configurations_of_the_suites_are_read() {
        let with_history = json!({ "history_size": 100, "history_ttl": "300s", "force_recovery": true,
            "allowed_delta_types": ["fossil"], "delta_publish": true });
        let small = json!({ "name": "smallhistory", "history_size": 2, "history_ttl": "300s",
            "force_recovery": true, "allow_publish_for_subscriber": true });
        let read = read(json!({
            "client": { "insecure": true, "token": { "hmac_secret_key": "secret" },
                "subscribe_to_user_personal_channel": { "enabled": true } },
            "http_api": { "key": "test-api-key" },
            "channel": { "without_namespace": with_history, "namespaces": [small] }
        }));
        let Read { rules, warnings } = read.expect("a configuration");
        assert!(rules.client.insecure && rules.client.has_personal_channel);
        assert_eq!(rules.api.key.as_deref(), Some("test-api-key"));
        let options = |name| rules.options(&Name::read(name, 255).expect("a name"));
        assert!(options("a").is_some_and(|options| options.history_count == 100));
        assert!(options("smallhistory:a").is_some_and(|options| options.publish.subscriber));
        assert!(options("unknown:a").is_none());
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn dev_needs_no_file() {
        assert!(read(dev()).is_ok_and(|read| read.warnings.is_empty()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            (json!({ "clients": {} }), "clients"),
            (json!({ "client": { "insecur": true } }), "client.insecur"),
            (json!({ "client": { "insecure": "yes" } }), "client.insecure"),
            (json!({ "client": { "ping_interval": 25 } }), "client.ping_interval"),
            (json!({ "client": { "ping_interval": "5s" } }), "client.ping_interval"),
            (json!({ "client": { "token": { "rsa_public_key": "x" } } }), "client.token"),
            (json!({ "channel": { "namespaces": [{ "name": "a" }] } }), "namespaces.name"),
            (json!({ "channel": { "namespaces": [{ "name": "aa" }, { "name": "aa" }] } }), "twice"),
            (
                json!({ "channel": { "without_namespace": { "force_recovery": true } } }),
                "history_size",
            ),
            (
                json!({ "channel": { "without_namespace": { "force_recovery_mode": "all" } } }),
                "force_recovery_mode",
            ),
            (json!({ "channel": { "without_namespace": { "channel_regex": "(" } } }), "regex"),
            (json!({ "rpc": { "without_namespace": { "proxy_enabled": true } } }), "endpoint"),
            (json!({ "rpc": { "proxy": { "endpoint": "https://a" } } }), "http://"),
            (json!({ "rpc": { "proxy": { "endpoint": "http://a", "timeout": "1h" } } }), "timeout"),
            (json!([]), "section"),
        ] {
            let why = read(text.clone()).expect_err("no configuration");
            assert!(why.contains(named), "{text}: {why}");
        }
    }

    #[test]
    fn spans_are_written_as_there() {
        for (text, ms) in [("300s", 300_000), ("1h30m", 5_400_000), ("500ms", 500), ("1.5s", 1_500)]
        {
            assert_eq!(span(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-1s", "5d"] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
