//! The team of a cell, its users and their tokens: what is asked of the webapp, and what is told of its answer.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::Webapp;

#[derive(Subcommand, Debug)]
pub(super) enum TeamArguments {
    /// The team, with its first channel, general. A cell has one
    Create {
        name: String,
        /// Its short name, in small letters [default: made of NAME]
        #[arg(long, value_name = "NAME")]
        domain: Option<String>,
    },
    /// The team, if it was made
    List,
}

#[derive(Subcommand, Debug)]
pub(super) enum UserArguments {
    /// Somebody new, who is in general from then on and comes in by no token yet
    Create {
        name: String,
        /// [default: NAME]
        #[arg(long, value_name = "NAME")]
        real_name: Option<String>,
        /// A program, which is never away
        #[arg(long)]
        bot: bool,
    },
    /// Everybody, also who was revoked
    List,
    /// Nobody comes in as this user any more: every token dies, and connections are closed
    Revoke {
        /// A name or an id
        user: String,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum TokenArguments {
    /// A new one, which is told now and never again
    Create {
        /// A name or an id
        user: String,
        /// What it is for
        #[arg(long)]
        label: Option<String>,
    },
    /// What tokens there are; never the tokens themselves
    List {
        /// Those of this user only
        user: Option<String>,
    },
    /// It opens nothing from now on, and connections that came of it are closed
    Revoke {
        /// Its number, or the token itself
        token: String,
    },
}

/// Checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) webapp: String,
    pub(super) key: PathBuf,
    pub(super) json: bool,
    pub(super) call: Value,
}

impl TeamArguments {
    pub(super) fn call(self) -> Value {
        match self {
            Self::Create { name, domain } => {
                json!({ "what": "team.create", "name": name, "domain": domain.unwrap_or_default() })
            }
            Self::List => json!({ "what": "team.list" }),
        }
    }
}

impl UserArguments {
    pub(super) fn call(self) -> Value {
        match self {
            Self::Create { name, real_name, bot } => json!({
                "what": "user.create", "name": name, "real_name": real_name.unwrap_or_default(), "is_bot": bot,
            }),
            Self::List => json!({ "what": "user.list" }),
            Self::Revoke { user } => json!({ "what": "user.revoke", "user": user }),
        }
    }
}

impl TokenArguments {
    pub(super) fn call(self) -> Value {
        match self {
            Self::Create { user, label } => {
                json!({ "what": "token.create", "user": user, "label": label.unwrap_or_default() })
            }
            Self::List { user } => {
                json!({ "what": "token.list", "user": user.unwrap_or_default() })
            }
            Self::Revoke { token } => json!({ "what": "token.revoke", "token": token }),
        }
    }
}

/// Lists that come in pages.
const LISTS: [&str; 2] = ["users", "tokens"];

pub(super) async fn run(config: &Config) -> Result<String, String> {
    let webapp = Webapp::new(&config.webapp, &config.key)?;
    let mut value = webapp.call(&config.call).await?;
    while let Some(after) = value["after"].as_i64() {
        let mut call = config.call.clone();
        call["after"] = after.into();
        let mut next = webapp.call(&call).await?;
        for list in LISTS {
            if let (Some(all), Some(more)) = (value[list].as_array_mut(), next[list].as_array_mut())
            {
                all.append(more);
            }
        }
        // A page begins behind the last one, or there is none.
        value["after"] = next["after"].as_i64().filter(|next| *next > after).into();
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("ok");
        fields.remove("after");
    }
    if config.json {
        return Ok(serde_json::to_string_pretty(&value).expect("plain data"));
    }
    Ok(told(config.call["what"].as_str().unwrap_or_default(), &value))
}

/// For people.
fn told(what: &str, value: &Value) -> String {
    let mut text = String::new();
    let word =
        |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    match what {
        "team.create" | "team.list" => {
            let teams =
                if what == "team.list" { list("teams") } else { vec![value["team"].clone()] };
            for team in &teams {
                let _ = writeln!(
                    text,
                    "{}  {}  {}",
                    word(&team["id"]),
                    word(&team["domain"]),
                    word(&team["name"])
                );
            }
            if teams.is_empty() {
                text.push_str("no team yet: `campanile ctl team create NAME`");
            }
        }
        "user.create" | "user.list" => {
            let users =
                if what == "user.list" { list("users") } else { vec![value["user"].clone()] };
            for user in &users {
                let bot = if user["is_bot"] == true { "  bot" } else { "" };
                let gone = if user["revoked"] == true { "  revoked" } else { "" };
                let _ = writeln!(
                    text,
                    "{}  {:<20} {}{bot}{gone}",
                    word(&user["id"]),
                    word(&user["name"]),
                    word(&user["real_name"])
                );
            }
        }
        "token.create" => text = word(&value["token"]),
        "token.list" => {
            for token in list("tokens") {
                let gone = token["revoked"].as_i64();
                let gone = gone.map_or(String::new(), |at| format!("  revoked {}", moment(at)));
                let created = moment(token["created"].as_i64().unwrap_or_default());
                let _ = writeln!(
                    text,
                    "{:>6}  {:<20} {:<20} created {created}{gone}",
                    word(&token["id"]),
                    word(&token["user"]),
                    word(&token["label"])
                );
            }
        }
        _ => {
            let count = list("tokens").len();
            let tokens = if count == 1 { "1 token".into() } else { format!("{count} tokens") };
            let user = value["user"]["name"].as_str();
            let user = user.map_or(String::new(), |name| format!("{name} comes in no more; "));
            let again = if value["is_new"] == true { "" } else { " (before, too)" };
            text = format!("{user}{tokens} revoked{again}");
        }
    }
    text.trim_end().to_string()
}

/// Seconds since 1970, as people write it.
fn moment(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_lines() {
        let tokens = json!({ "tokens": [
            { "id": 7, "user": "bob", "label": "laptop", "created": 0, "revoked": null },
            { "id": 8, "user": "bob", "label": "", "created": 0, "revoked": 86_400 },
        ] });
        let told = told("token.list", &tokens);
        let lines: Vec<&str> = told.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("7  bob")
                && lines[0].ends_with("created Thu, 01 Jan 1970 00:00:00 GMT")
        );
        assert!(lines[1].ends_with("revoked Fri, 02 Jan 1970 00:00:00 GMT"), "{told}");
        let gone = json!({ "user": { "name": "bob" }, "tokens": [7, 8], "is_new": true });
        assert_eq!(super::told("user.revoke", &gone), "bob comes in no more; 2 tokens revoked");
    }
}
