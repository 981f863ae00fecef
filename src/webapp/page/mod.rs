//! The chat page: a few files that the binary carries, served with their types and nothing from elsewhere.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

/// The websocket port is another origin than the page, and its address comes from `rtm.connect`: so `ws:` and `wss:` of any host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, type and content of every file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("/page/app.js", "text/javascript; charset=utf-8", include_str!("app.js")),
    ("/page/rtm.js", "text/javascript; charset=utf-8", include_str!("rtm.js")),
    ("/page/store.js", "text/javascript; charset=utf-8", include_str!("store.js")),
    ("/page/text.js", "text/javascript; charset=utf-8", include_str!("text.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("favicon.svg")),
];

/// Serves `/` and what it refers to. Merged into the Web API's router.
pub fn router() -> Router {
    let mut router = Router::new();
    for &(path, content_type, content) in FILES {
        router = router.route(path, get(move || async move { file(content_type, content) }));
    }
    router
}

fn file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    (
        [
            (CONTENT_TYPE, content_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            // Another build may be started on the same port: always ask.
            (CACHE_CONTROL, "no-cache"),
        ],
        content,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_refers_to_nothing_that_is_not_served() {
        let served: Vec<&str> = FILES.iter().map(|(path, _, _)| *path).collect();
        for (path, _, content) in FILES {
            for mark in ["src=\"", "href=\"", "from \""] {
                for (at, _) in content.match_indices(mark) {
                    let rest = &content[at + mark.len()..];
                    let target = &rest[..rest.find('"').unwrap_or(rest.len())];
                    let target = match target.strip_prefix("./") {
                        Some(name) => format!("/page/{name}"),
                        None => target.to_string(),
                    };
                    assert!(served.contains(&target.as_str()), "{path} refers to {target}");
                }
            }
        }
    }

    #[test]
    fn no_text_of_a_user_can_become_markup() {
        for (path, _, content) in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(word), "{path} uses {word}");
            }
        }
    }
}
