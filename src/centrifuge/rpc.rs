//! Section `rpc` of an operator's configuration: which methods a back end answers, and where that is.

use std::time::Duration;

/// `method` or `namespace:method`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rpc {
    /// An address that begins with `http://`.
    pub endpoint: Box<str>,
    pub timeout: Duration,
    /// Methods without a namespace, and with one of these.
    pub(super) without_namespace: bool,
    pub(super) namespaces: Vec<Box<str>>,
}

impl Rpc {
    pub fn serves(&self, method: &str) -> bool {
        match method.split_once(':') {
            None => self.without_namespace,
            Some((namespace, _)) => self.namespaces.iter().any(|known| **known == *namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_served_by_its_namespace() {
        let rpc = Rpc {
            endpoint: "http://127.0.0.1/".into(),
            timeout: Duration::from_secs(1),
            without_namespace: false,
            namespaces: vec!["shop".into()],
        };
        assert!(rpc.serves("shop:buy") && !rpc.serves("buy") && !rpc.serves("other:buy"));
    }
}
