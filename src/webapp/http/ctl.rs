//! The operator's door of a webapp: the team, its users and their tokens, for whoever proves to know the cell's key (`wire::operator`).

use std::sync::Mutex;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::challenges::{Challenges, Worthless};
use super::{Failure, Ordering, RETRY_AFTER_S, Site, in_json};
use crate::webapp::database::{
    Change, Ended, Outcome, Part, Refused, Team, Token, User, new_token, token_hash,
};
use crate::wire::operator::{CHALLENGE, OperatorKey, PROOF, Side};

/// Tokens and users of one answer; the next ones are asked for.
const PAGE_MAX: i64 = 1_000;

/// What the door knows. Per process.
#[derive(Debug)]
pub(super) struct Operator {
    key: OperatorKey,
    challenges: Mutex<Challenges>,
}

impl Operator {
    pub(super) fn new(key: OperatorKey) -> Self {
        Self { key, challenges: Mutex::new(Challenges::new()) }
    }

    fn take(&self, challenge: &str) -> Result<(), Worthless> {
        let mut challenges = self.challenges.lock().expect("nobody panics with it");
        challenges.take(Instant::now(), challenge)
    }
}

/// What an operator may want.
#[derive(Deserialize, Debug)]
#[serde(tag = "what", deny_unknown_fields)]
enum Wish {
    #[serde(rename = "team.create")]
    TeamCreate {
        name: String,
        #[serde(default)]
        domain: String,
    },
    #[serde(rename = "team.list")]
    TeamList {},
    #[serde(rename = "user.create")]
    UserCreate {
        name: String,
        #[serde(default)]
        real_name: String,
        #[serde(default)]
        is_bot: bool,
    },
    #[serde(rename = "user.list")]
    UserList {
        #[serde(default)]
        after: i64,
    },
    #[serde(rename = "user.revoke")]
    UserRevoke { user: String },
    #[serde(rename = "token.create")]
    TokenCreate {
        user: String,
        #[serde(default)]
        label: String,
    },
    #[serde(rename = "token.list")]
    TokenList {
        #[serde(default)]
        user: String,
        #[serde(default)]
        after: i64,
    },
    /// By its number, or by itself.
    #[serde(rename = "token.revoke")]
    TokenRevoke { token: String },
}

/// Why nothing was done: a name for programs, and a sentence.
struct Undone(&'static str, String);

type Done = Result<Value, Undone>;

/// Something to prove the next call over.
pub(super) async fn challenge(State(site): State<Site>) -> Response {
    let challenges = site.operator.challenges.lock().expect("nobody panics with it");
    in_json(&json!({ "ok": true, "challenge": challenges.give(Instant::now()) })).into_response()
}

pub(super) async fn call(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Response {
    if site.is_draining.load(Ordering::Relaxed) {
        return Failure::Unavailable("service_unavailable").into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(challenge), Some(proof)) = (header(CHALLENGE), header(PROOF)) else {
        return refused("not_authed");
    };
    if !site.operator.key.is_proven(Side::Operator, challenge, &body, proof) {
        return refused("invalid_auth");
    }
    match site.operator.take(challenge) {
        Ok(()) => {}
        Err(Worthless::Void) => return refused("invalid_challenge"),
        Err(Worthless::Full) => {
            return Failure::Limited { seconds: RETRY_AFTER_S }.into_response();
        }
    }
    let done = match serde_json::from_slice(&body) {
        Ok(wish) => carry_out(&site, wish).await,
        Err(error) => Err(Undone(
            "invalid_arguments",
            format!("this webapp understands no such call: {error}"),
        )),
    };
    let value = match done {
        Ok(mut value) => {
            value["ok"] = true.into();
            value
        }
        Err(Undone(error, why)) => json!({ "ok": false, "error": error, "why": why }),
    };
    let proof = site.operator.key.proof(Side::Webapp, challenge, value.to_string().as_bytes());
    ([(PROOF, proof)], in_json(&value)).into_response()
}

fn refused(error: &str) -> Response {
    let value = json!({ "ok": false, "error": error });
    (StatusCode::UNAUTHORIZED, in_json(&value)).into_response()
}

async fn carry_out(site: &Site, wish: Wish) -> Done {
    let database = &site.database;
    match wish {
        Wish::TeamCreate { name, domain } => {
            match database.change(Change::CreateTeam { name, domain }).await {
                Ok(Outcome::Team(team)) => Ok(json!({ "team": of_team(&team) })),
                Ok(other) => unreachable!("a new team gives {other:?}"),
                Err(Refused("team_exists")) => {
                    let name = &database.team().name;
                    let why = format!("this cell has its team already: {name}; a cell has one");
                    Err(Undone("team_exists", why))
                }
                Err(refused) => Err(refused.into()),
            }
        }
        Wish::TeamList {} => {
            let team = Some(database.team()).filter(|team| !team.id.is_empty());
            Ok(json!({ "teams": team.map(of_team).into_iter().collect::<Vec<_>>() }))
        }
        Wish::UserCreate { name, real_name, is_bot } => {
            let what = name.clone();
            let change = Change::CreateUser { name, real_name, is_bot };
            match database.change(change).await {
                Ok(Outcome::User(user)) => Ok(json!({ "user": of_user(&user) })),
                Ok(other) => unreachable!("a new user gives {other:?}"),
                Err(Refused("name_taken")) => {
                    Err(Undone("name_taken", format!("there is a user {what} already")))
                }
                Err(refused) => Err(refused.into()),
            }
        }
        Wish::UserList { after } => {
            let (users, after) = database.users_part(Part { after: after.max(0), limit: PAGE_MAX });
            let users: Vec<Value> = users.iter().map(|user| of_user(user)).collect();
            Ok(json!({ "users": users, "after": after }))
        }
        Wish::UserRevoke { user } => {
            let user = found(site, &user)?.id.clone();
            revoked(site, Change::RevokeUser { user }).await
        }
        Wish::TokenCreate { user, label } => {
            let user = found(site, &user)?;
            let token = new_token(user.is_bot);
            let (id, hash) = (user.id.clone(), token_hash(&token));
            let change = Change::CreateToken { user: id, label: label.clone(), hash };
            match database.change(change).await {
                Ok(Outcome::Token(known)) => Ok(json!({
                    "token": token, "id": known.number(), "user": user.name, "user_id": user.id, "label": label,
                })),
                Ok(other) => unreachable!("a new token gives {other:?}"),
                Err(Refused("account_inactive")) => Err(Undone(
                    "account_inactive",
                    format!("{} is deactivated: nobody comes in as this user any more", user.name),
                )),
                Err(refused) => Err(refused.into()),
            }
        }
        Wish::TokenList { user, after } => {
            let user = if user.is_empty() { None } else { Some(found(site, &user)?) };
            let id = user.as_ref().map(|user| user.id.as_str());
            let part = Part { after: after.max(0), limit: PAGE_MAX };
            let (tokens, after) = database.tokens(id, part).await?;
            let tokens: Vec<Value> = tokens.iter().map(|token| of_token(site, token)).collect();
            Ok(json!({ "tokens": tokens, "after": after }))
        }
        Wish::TokenRevoke { token } => {
            let number = match token.parse() {
                Ok(number) => Some(number),
                Err(_) => database.token_number(&token),
            };
            // What is no number may be somebody's token: it is not repeated.
            let what = if number.is_some() { token.as_str() } else { "like this" };
            let unknown = || Undone("token_not_found", format!("there is no token {what}"));
            match revoked(site, Change::RevokeToken { number: number.ok_or_else(unknown)? }).await {
                Err(Undone("token_not_found", _)) => Err(unknown()),
                done => done,
            }
        }
    }
}

/// A user by id or name.
fn found(site: &Site, user: &str) -> Result<std::sync::Arc<User>, Undone> {
    let found = site.database.user(user).or_else(|| site.database.user_named(user));
    found.ok_or_else(|| Undone("user_not_found", format!("there is no user {user}")))
}

async fn revoked(site: &Site, change: Change) -> Done {
    match site.database.change(change).await? {
        Outcome::Revoked { user, tokens, is_new } => {
            let numbers: Vec<u32> = tokens.iter().map(|ended| Ended::pair(ended).0).collect();
            Ok(json!({ "user": user.as_deref().map(of_user), "tokens": numbers, "is_new": is_new }))
        }
        other => unreachable!("what is revoked gives {other:?}"),
    }
}

fn of_team(team: &Team) -> Value {
    json!({ "id": team.id, "name": team.name, "domain": team.domain })
}

fn of_user(user: &User) -> Value {
    json!({
        "id": user.id, "name": user.name, "real_name": user.real_name, "is_bot": user.is_bot, "revoked": user.is_revoked,
    })
}

/// Moments in seconds since 1970.
fn of_token(site: &Site, token: &Token) -> Value {
    let user = site.database.user(&token.who);
    json!({
        "id": token.number, "user": user.as_ref().map(|user| &user.name), "user_id": token.who, "label": token.label,
        "created": token.created / 1_000_000, "revoked": token.revoked.map(|at| at / 1_000_000),
    })
}

impl From<Refused> for Undone {
    fn from(Refused(error): Refused) -> Self {
        let why = match error {
            "team_not_found" => "this cell has no team yet: `campanile ctl team create NAME`",
            "invalid_team_name" => "a team's name has 1 to 80 characters",
            "invalid_team_domain" => {
                "a team's domain has 1 to 63 small letters, digits and hyphens, and no hyphen at its ends"
            }
            "invalid_name_required" => "a user has a name",
            "invalid_name_maxlength" => "names have at most 80 characters",
            "invalid_name_specials" => {
                "a user's name has small letters, digits, hyphens, underscores and dots"
            }
            "invalid_name_punctuation" => "a user's name has a letter or a digit",
            "user_limit_reached" => "the webapp is full of users (users_max)",
            "token_limit_reached" => {
                "this user has too many tokens (tokens_per_user_max), or the webapp (tokens_max): revoke some"
            }
            "invalid_label" => "a label has at most 80 characters, on one line",
            "ratelimited" => "the webapp has too much to do: try again",
            "service_unavailable" => {
                "the database cannot be written now: nothing was done; try again"
            }
            _ => "the webapp failed: its log says why, and whether it was done, a look will tell",
        };
        Self(error, why.into())
    }
}
