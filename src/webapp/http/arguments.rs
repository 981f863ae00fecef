//! Arguments of a call, wherever they stand: query, form, JSON or multipart. Clients differ in all of it.

use std::collections::HashMap;

use axum::Form;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::{Failure, refuse};

/// Name and value; a value from a form is a string, one from JSON is what it is.
#[derive(Debug, Default)]
pub(super) struct Arguments(HashMap<String, Value>);

type Pairs = Vec<(String, String)>;

impl Arguments {
    /// The body's arguments stand above those of the query.
    pub(super) async fn read(request: Request) -> Result<Self, Failure> {
        let query = Query::<Pairs>::try_from_uri(request.uri());
        let Ok(Query(pairs)) = query else { return refuse("invalid_arguments") };
        let mut arguments = Self::default();
        arguments.add(pairs);
        if request.method() == Method::GET {
            return Ok(arguments);
        }
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => arguments.json(request).await?,
            "application/x-www-form-urlencoded" => {
                match Form::<Pairs>::from_request(request, &()).await {
                    Ok(Form(pairs)) => arguments.add(pairs),
                    Err(_) => return refuse("invalid_form_data"),
                }
            }
            "multipart/form-data" => arguments.parts(request).await?,
            // slack_sdk and others send no type with an empty body.
            _ => match Bytes::from_request(request, &()).await {
                Ok(bytes) if bytes.is_empty() => {}
                _ => return refuse("invalid_post_type"),
            },
        }
        Ok(arguments)
    }

    fn add(&mut self, pairs: Pairs) {
        self.0.extend(pairs.into_iter().map(|(name, value)| (name, value.into())));
    }

    async fn json(&mut self, request: Request) -> Result<(), Failure> {
        let Ok(bytes) = Bytes::from_request(request, &()).await else {
            return refuse("invalid_json");
        };
        if bytes.is_empty() {
            return Ok(());
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(fields)) => {
                self.0.extend(fields);
                Ok(())
            }
            Ok(_) => refuse("json_not_object"),
            Err(_) => refuse("invalid_json"),
        }
    }

    async fn parts(&mut self, request: Request) -> Result<(), Failure> {
        let wrong = Failure::Refused("invalid_form_data");
        let Ok(mut parts) = Multipart::from_request(request, &()).await else { return Err(wrong) };
        while let Some(part) = parts.next_field().await.map_err(|_| wrong.clone())? {
            let Some(name) = part.name().map(ToString::to_string) else { continue };
            let text = part.text().await.map_err(|_| wrong.clone())?;
            self.0.insert(name, text.into());
        }
        Ok(())
    }

    /// A string; numbers and booleans of JSON as they are written. Empty is none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }

    /// A string that must be there.
    pub(super) fn need(&self, name: &str, reason: &'static str) -> Result<String, Failure> {
        self.text(name).ok_or(Failure::Refused(reason))
    }

    /// `true` and `1`, in any of the ways in which clients write them.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    }

    /// A number, if it is there and one.
    pub(super) fn number(&self, name: &str, wrong: &'static str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::Refused(wrong))
    }

    /// Words, as a list of JSON or separated by commas.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let list = |values: &[Value]| {
            values.iter().filter_map(|value| value.as_str().map(ToString::to_string)).collect()
        };
        match self.0.get(name) {
            Some(Value::Array(values)) => list(values),
            Some(Value::String(text)) if text.starts_with('[') => {
                serde_json::from_str::<Vec<Value>>(text).map_or(Vec::new(), |values| list(&values))
            }
            Some(Value::String(text)) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A list, which forms carry as a string of JSON. None when it is not there.
    fn list(&self, name: &str, wrong: &'static str) -> Result<Option<Value>, Failure> {
        let value = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => {
                serde_json::from_str(text).map_err(|_| Failure::Refused(wrong))?
            }
            Some(value) => value.clone(),
        };
        if value.is_array() { Ok(Some(value)) } else { refuse(wrong) }
    }

    /// What a message carries besides its text. An empty list takes away what an edited message had.
    pub(super) fn decorations(&self) -> Result<Map<String, Value>, Failure> {
        let mut more = Map::new();
        for (name, wrong) in [("blocks", "invalid_blocks"), ("attachments", "invalid_attachments")]
        {
            if let Some(list) = self.list(name, wrong)? {
                more.insert(name.into(), list);
            }
        }
        Ok(more)
    }

    /// All of them, but the token: for `api.test`.
    pub(super) fn echo(&self) -> Value {
        let known = self.0.iter().filter(|(name, _)| *name != "token");
        Value::Object(known.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
