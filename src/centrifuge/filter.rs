//! A subscriber's filter over the tags of publications (`centrifuge.md` 2).

use std::collections::BTreeMap;

use super::message::FilterNode;

/// Of one filter: what is evaluated for each publication and subscriber.
const NODES_MAX: u32 = 64;
const DEPTH_MAX: u32 = 8;

/// A filter that makes sense.
#[derive(Clone, PartialEq, Debug)]
pub struct Filter(FilterNode);

impl Filter {
    /// `None`: nobody could say what it lets through.
    pub fn read(node: &FilterNode) -> Option<Self> {
        let mut nodes = 0;
        is_fine(node, 1, &mut nodes).then(|| Self(node.clone()))
    }

    pub fn passes(&self, tags: &BTreeMap<String, String>) -> bool {
        passes(&self.0, tags)
    }
}

fn is_fine(node: &FilterNode, depth: u32, nodes: &mut u32) -> bool {
    *nodes += 1;
    if *nodes > NODES_MAX || depth > DEPTH_MAX {
        return false;
    }
    let is_number = || number(&node.val).is_some();
    match (&*node.op, &*node.cmp) {
        ("", _) if node.key.is_empty() || !node.nodes.is_empty() => false,
        ("", "eq" | "neq" | "ex" | "nex" | "sw" | "ew" | "ct") => true,
        ("", "in" | "nin") => !node.vals.is_empty(),
        ("", "lt" | "lte" | "gt" | "gte") => is_number(),
        ("and" | "or", _) if node.nodes.is_empty() => false,
        ("not", _) if node.nodes.len() != 1 => false,
        ("and" | "or" | "not", _) => node.nodes.iter().all(|one| is_fine(one, depth + 1, nodes)),
        _ => false,
    }
}

fn passes(node: &FilterNode, tags: &BTreeMap<String, String>) -> bool {
    let mut nodes = node.nodes.iter();
    match &*node.op {
        "and" => return nodes.all(|one| passes(one, tags)),
        "or" => return nodes.any(|one| passes(one, tags)),
        "not" => return !nodes.all(|one| passes(one, tags)),
        _ => {}
    }
    let tag = tags.get(&node.key);
    let is = |fact: fn(&str, &str) -> bool| tag.is_some_and(|tag| fact(tag, &node.val));
    let compares = |fact: fn(f64, f64) -> bool| {
        let both = tag.and_then(|tag| number(tag)).zip(number(&node.val));
        both.is_some_and(|(tag, value)| fact(tag, value))
    };
    match &*node.cmp {
        "eq" => is(|tag, value| tag == value),
        "neq" => !is(|tag, value| tag == value),
        "in" => tag.is_some_and(|tag| node.vals.contains(tag)),
        "nin" => !tag.is_some_and(|tag| node.vals.contains(tag)),
        "ex" => tag.is_some(),
        "nex" => tag.is_none(),
        "sw" => is(|tag, value| tag.starts_with(value)),
        "ew" => is(|tag, value| tag.ends_with(value)),
        "ct" => is(|tag, value| tag.contains(value)),
        "lt" => compares(|tag, value| tag < value),
        "lte" => compares(|tag, value| tag <= value),
        "gt" => compares(|tag, value| tag > value),
        _ => compares(|tag, value| tag >= value),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Option<Filter> {
        Filter::read(&serde_json::from_str(text).expect("JSON"))
    }

    fn is_through(text: &str) -> bool {
        let tags = [("ticker", "BTC"), ("price", "50")];
        let tags = tags.map(|(name, value)| (name.to_string(), value.to_string()));
        filter(text).expect("a filter").passes(&tags.into())
    }

    #[test]
    fn every_comparison_and_every_operator() {
        for (text, expected) in [
            (r#"{"key":"ticker","cmp":"eq","val":"BTC"}"#, true),
            (r#"{"key":"ticker","cmp":"neq","val":"BTC"}"#, false),
            (r#"{"key":"none","cmp":"neq","val":"BTC"}"#, true),
            (r#"{"key":"ticker","cmp":"in","vals":["ETH","BTC"]}"#, true),
            (r#"{"key":"ticker","cmp":"nin","vals":["ETH","BTC"]}"#, false),
            (r#"{"key":"none","cmp":"nin","vals":["ETH"]}"#, true),
            (r#"{"key":"price","cmp":"ex"}"#, true),
            (r#"{"key":"price","cmp":"nex"}"#, false),
            (r#"{"key":"ticker","cmp":"sw","val":"B"}"#, true),
            (r#"{"key":"ticker","cmp":"ew","val":"B"}"#, false),
            (r#"{"key":"ticker","cmp":"ct","val":"T"}"#, true),
            (r#"{"key":"price","cmp":"lt","val":"9"}"#, false),
            (r#"{"key":"price","cmp":"lte","val":"50.0"}"#, true),
            (r#"{"key":"price","cmp":"gt","val":"9"}"#, true),
            (r#"{"key":"price","cmp":"gte","val":"51"}"#, false),
            (r#"{"key":"ticker","cmp":"gt","val":"1"}"#, false),
            (r#"{"op":"not","nodes":[{"key":"price","cmp":"ex"}]}"#, false),
            (
                r#"{"op":"and","nodes":[{"key":"price","cmp":"ex"},{"key":"none","cmp":"ex"}]}"#,
                false,
            ),
            (r#"{"op":"or","nodes":[{"key":"price","cmp":"ex"},{"key":"none","cmp":"ex"}]}"#, true),
        ] {
            assert_eq!(is_through(text), expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_filter() {
        let deep =
            r#"{"op":"not","nodes":["#.repeat(9) + r#"{"key":"a","cmp":"ex"}"# + &"]}".repeat(9);
        let leaves = [r#"{"key":"a","cmp":"ex"}"#; 64].join(",");
        let wide = format!(r#"{{"op":"and","nodes":[{leaves}]}}"#);
        for text in [
            "{}",
            r#"{"cmp":"eq"}"#,
            r#"{"key":"a","cmp":"is"}"#,
            r#"{"key":"a","cmp":"gt","val":"x"}"#,
            r#"{"key":"a","cmp":"in"}"#,
            r#"{"op":"and"}"#,
            r#"{"op":"xor","nodes":[{"key":"a","cmp":"ex"}]}"#,
            r#"{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}"#,
            &deep,
            &wide,
        ] {
            assert_eq!(filter(text), None, "{text}");
        }
    }
}
