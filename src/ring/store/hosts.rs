//! Servers that know the same, asked in order until one answers.

use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::{ANSWER_BYTES_MAX, Failed};

#[derive(Clone, Debug)]
pub(super) struct Hosts {
    pub(super) client: Client,
    /// `http://host:port`.
    pub(super) list: Vec<String>,
}

/// What is asked for, and so what may be asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    /// Whoever was reached may have done it: no other is asked.
    Write,
}

impl Hosts {
    /// The first answer with a status that `is_answer`.
    pub(super) async fn ask(
        &self,
        kind: Kind,
        request: impl Fn(&Client, &str) -> RequestBuilder,
        is_answer: impl Fn(StatusCode) -> bool,
    ) -> Result<(StatusCode, Vec<u8>), Failed> {
        let mut last = Failed::Unreachable("no address".into());
        for host in &self.list {
            let failed = match answer(request(&self.client, host)).await {
                Ok((status, bytes)) if is_answer(status) => return Ok((status, bytes)),
                Ok((status, bytes)) => Failed::Unknown(said(status, &bytes)),
                Err(failed) => failed,
            };
            last = match (kind, failed) {
                (_, failed @ Failed::Unreachable(_)) => failed,
                (Kind::Write, failed) => return Err(failed),
                // A read did nothing.
                (Kind::Read, Failed::Unknown(why)) => Failed::Unreachable(why),
                (Kind::Read, failed) => failed,
            };
        }
        Err(last)
    }
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Failed> {
    let mut answer: Response = request.send().await.map_err(|error| failed(&error))?;
    let (status, mut bytes) = (answer.status(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            let why = format!("its answer is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(Failed::Unusable(why));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, bytes))
}

/// What failed before anything was sent did nothing; the rest nobody knows.
fn failed(error: &reqwest::Error) -> Failed {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    if error.is_connect() { Failed::Unreachable(why) } else { Failed::Unknown(why) }
}

fn said(status: StatusCode, bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).trim().chars().take(200).collect();
    format!("it says {status}: {text}")
}
