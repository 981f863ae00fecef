//! What only a demo has, such as `dev`: the workspace with all tokens, for a person and for the page; and new users, for load and for tests.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::{Answer, Failure, GuestDoor, Ordering, Site, in_json, refuse};
use crate::webapp::database::{Change, Outcome, User};

/// Who and what there is.
pub(super) async fn workspace(State(site): State<Site>) -> Response {
    let database = &site.database;
    let users: Vec<Value> = database.users().iter().map(|user| with_token(&site, user)).collect();
    let channels: Vec<Value> = database
        .seeded_channels()
        .iter()
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect();
    let team = database.team();
    let team = json!({ "id": team.id, "name": team.name, "domain": team.domain });
    let GuestDoor { url, token_secret, api_url, api_key } = &*site.guests;
    let centrifuge =
        json!({ "url": url, "token_secret": token_secret, "api_url": api_url, "api_key": api_key });
    let workspace =
        json!({ "team": team, "users": users, "channels": channels, "centrifuge": centrifuge });
    in_json(&workspace).into_response()
}

/// `name`, `is_bot` and perhaps `real_name`, in any of the ways of the Web API: somebody new, with a token.
pub(super) async fn create_user(State(site): State<Site>, request: Request) -> Response {
    if site.is_draining.load(Ordering::Relaxed) {
        return Failure::Unavailable("service_unavailable").into_response();
    }
    match created(&site, request).await {
        Ok(value) => in_json(&value).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn created(site: &Site, request: Request) -> Answer {
    if is_of_another_site(request.headers()) {
        return refuse("invalid_origin");
    }
    let arguments = Arguments::read(request).await?;
    let change = Change::CreateUser {
        name: arguments.need("name", "invalid_name_required")?,
        real_name: arguments.text("real_name").unwrap_or_default(),
        is_bot: arguments.flag("is_bot"),
    };
    let Outcome::User(user) = site.database.change(change).await? else {
        return Err(Failure::Unavailable("internal_error"));
    };
    if let Some(demo) = &site.demo {
        let (id, hash) = (user.id.clone(), demo.hash(&user));
        let token = Change::CreateToken { user: id, label: "demo".into(), hash };
        site.database.change(token).await?;
    }
    Ok(json!({ "ok": true, "user": with_token(site, &user) }))
}

/// The token is null once it opens nothing any more.
fn with_token(site: &Site, user: &User) -> Value {
    let token = site.demo.as_ref().map(|demo| demo.token(user));
    let token = token.filter(|token| site.database.bearer(token).is_ok());
    json!({ "id": user.id, "name": user.name, "token": token, "is_bot": user.is_bot })
}

/// There is no token to ask for here, so that a page of somebody else could post a form: browsers say where it is from.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let name = |value: &str| value.split_once("://").map(|(_, name)| name.to_ascii_lowercase());
    let origin = origin.to_str().ok().and_then(name);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    origin.is_none() || origin != host
}
