//! JWTs: who a client is, and which channel it may subscribe to (`centrifuge.md` 3).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rules::{Options, one_line};

/// With what tokens are verified. Per node.
#[derive(Clone)]
pub struct Keys {
    secret: Option<Box<str>>,
    hmac: Option<DecodingKey>,
    rsa: Option<DecodingKey>,
    ecdsa: Option<DecodingKey>,
    audience: Option<String>,
    issuer: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Why a token is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    Expired,
    /// Forged, malformed, not yet valid, of another audience, or nobody here could verify it.
    Invalid,
}

/// What a token says. Seconds since 1970.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The user; empty: anonymous.
    pub sub: String,
    pub exp: Option<u64>,
    nbf: Option<u64>,
    /// When the connection or the subscription expires, whatever `exp` says; 0: never.
    pub expire_at: Option<u64>,
    pub channel: Option<String>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    /// Channels that a connection is subscribed to by us.
    channels: Vec<String>,
    /// The same with more to say about each; these win.
    subs: BTreeMap<String, Grant>,
    /// Told with the reply to a subscription.
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Overrides,
}

/// One subscription that a token gives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Grant {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    pub overrides: Overrides,
}

/// What a subscription has otherwise than its channel.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Overrides {
    pub presence: Option<Flag>,
    pub join_leave: Option<Flag>,
    pub force_push_join_leave: Option<Flag>,
    pub force_recovery: Option<Flag>,
    pub force_positioning: Option<Flag>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Flag {
    pub value: bool,
}

fn bytes_of(raw: Option<&RawValue>, in_base64: Option<&str>) -> Vec<u8> {
    match in_base64 {
        Some(text) => json_of(text).unwrap_or_default(),
        None => raw.and_then(|raw| one_line(raw.get().as_bytes())).unwrap_or_default(),
    }
}

impl Grant {
    /// What others are told about the client in this channel: JSON, or empty.
    pub fn info(&self) -> Vec<u8> {
        bytes_of(self.info.as_deref(), self.b64info.as_deref())
    }
    pub fn data(&self) -> Vec<u8> {
        bytes_of(self.data.as_deref(), self.b64data.as_deref())
    }
}

impl Overrides {
    /// The options of a channel as this subscription has them.
    pub fn apply(self, options: &Options) -> Options {
        let of = |flag: Option<Flag>, otherwise: bool| flag.map_or(otherwise, |flag| flag.value);
        Options {
            presence: of(self.presence, options.presence),
            join_leave: of(self.join_leave, options.join_leave),
            force_push_join_leave: of(self.force_push_join_leave, options.force_push_join_leave),
            force_recovery: of(self.force_recovery, options.force_recovery),
            force_positioning: of(self.force_positioning, options.force_positioning),
            ..options.clone()
        }
    }
}

impl Claims {
    /// What others are told about the client: JSON, or empty.
    pub fn info(&self) -> Vec<u8> {
        bytes_of(self.info.as_deref(), self.b64info.as_deref())
    }

    /// Whether it lets this user subscribe to this channel.
    pub fn is_for(&self, user: &str, channel: &str) -> bool {
        self.sub == user && self.channel.as_deref() == Some(channel)
    }

    /// The token's own channel, as one subscription.
    pub fn grant(&self) -> Grant {
        Grant {
            info: self.info.clone(),
            b64info: self.b64info.clone(),
            data: self.data.clone(),
            b64data: self.b64data.clone(),
            overrides: self.overrides,
        }
    }

    /// The channels that the connection is subscribed to by us.
    pub fn grants(&self) -> BTreeMap<String, Grant> {
        let mut grants = self.subs.clone();
        for channel in &self.channels {
            grants.entry(channel.clone()).or_default();
        }
        grants
    }

    /// When it expires, if ever.
    pub fn expires_s(&self) -> Option<u64> {
        match self.expire_at {
            Some(0) => None,
            Some(at) => Some(at),
            None => self.exp.filter(|exp| *exp > 0),
        }
    }
}

impl Keys {
    /// # Errors
    /// A sentence, when a key is none.
    pub fn new(
        hmac: Option<&str>,
        rsa: Option<&str>,
        ecdsa: Option<&str>,
        audience: Option<String>,
        issuer: Option<String>,
    ) -> Result<Self, String> {
        let given = |key: Option<&str>| key.map(str::to_string).filter(|key| !key.is_empty());
        let pem = |name: &'static str, key: Option<String>, read: ReadPem| {
            key.map(|key| read(key.as_bytes()).map_err(|why| format!("{name}: {why}"))).transpose()
        };
        Ok(Self {
            secret: given(hmac).map(Into::into),
            hmac: given(hmac).map(|key| DecodingKey::from_secret(key.as_bytes())),
            rsa: pem("rsa_public_key", given(rsa), DecodingKey::from_rsa_pem)?,
            ecdsa: pem("ecdsa_public_key", given(ecdsa), DecodingKey::from_ec_pem)?,
            audience: audience.filter(|audience| !audience.is_empty()),
            issuer: issuer.filter(|issuer| !issuer.is_empty()),
        })
    }

    /// The secret of tokens by HMAC.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// For a node whose operator gave none.
    pub fn set_secret(&mut self, secret: &str) {
        self.secret = Some(secret.into());
        self.hmac = Some(DecodingKey::from_secret(secret.as_bytes()));
    }

    /// What a token claims, if we can believe it. `now_s`: seconds since 1970.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Claims, Refused> {
        let header = decode_header(token).map_err(|_| Refused::Invalid)?;
        let key = match header.alg {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => &self.hmac,
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => &self.rsa,
            Algorithm::ES256 | Algorithm::ES384 => &self.ecdsa,
            _ => &None,
        };
        let key = key.as_ref().ok_or(Refused::Invalid)?;
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        let needs = [("aud", self.audience.is_some()), ("iss", self.issuer.is_some())];
        for (claim, _) in needs.iter().filter(|(_, is_needed)| *is_needed) {
            validation.required_spec_claims.insert((*claim).into());
        }
        // The time is an argument here.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        match &self.audience {
            Some(audience) => validation.set_audience(&[audience]),
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
        }
        let claims =
            decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Refused::Expired,
                _ => Refused::Invalid,
            })?;
        let claims = claims.claims;
        if claims.nbf.is_some_and(|nbf| nbf > now_s) {
            return Err(Refused::Invalid);
        }
        if claims.exp.is_some_and(|exp| exp > 0 && exp <= now_s) {
            return Err(Refused::Expired);
        }
        Ok(claims)
    }
}

type ReadPem = fn(&[u8]) -> Result<DecodingKey, jsonwebtoken::errors::Error>;

/// JSON in base64.
fn json_of(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    serde_json::from_slice::<&RawValue>(&bytes).is_ok().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    fn keys() -> Keys {
        Keys::new(Some("secret"), None, None, None, None).expect("keys")
    }

    fn token(alg: Algorithm, secret: &str, claims: &Value) -> String {
        encode(&Header::new(alg), claims, &EncodingKey::from_secret(secret.as_bytes()))
            .expect("a token")
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let claims = json!({ "sub": "42", "exp": 200, "info": { "n": 1 } });
            let claims = keys().verify(&token(alg, "secret", &claims), 100).expect("valid");
            assert_eq!((&*claims.sub, claims.expires_s()), ("42", Some(200)));
            assert_eq!(claims.info(), b"{\"n\":1}");
        }
        let never = token(
            Algorithm::HS256,
            "secret",
            &json!({ "exp": 200, "expire_at": 0, "b64info": "WzFd" }),
        );
        let never = keys().verify(&never, 100).expect("valid");
        assert_eq!((never.expires_s(), never.info()), (None, b"[1]".to_vec()));
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        let claims = json!({ "sub": "42", "exp": 200, "nbf": 50 });
        let good = token(Algorithm::HS256, "secret", &claims);
        assert_eq!(keys().verify(&good, 200).err(), Some(Refused::Expired));
        assert_eq!(keys().verify(&good, 49).err(), Some(Refused::Invalid));
        let forged = token(Algorithm::HS256, "guess", &claims);
        assert_eq!(keys().verify(&forged, 100).err(), Some(Refused::Invalid));
        // {"alg":"none"}
        let payload = good.split('.').nth(1).expect("three parts");
        let none = format!("eyJhbGciOiJub25lIn0.{payload}.");
        for bad in [&*none, "", "a.b.c", "x", &good[..good.len() - 2]] {
            assert_eq!(keys().verify(bad, 100).err(), Some(Refused::Invalid), "{bad}");
        }
        let nobody = Keys::new(None, None, None, None, None).expect("keys");
        assert_eq!(nobody.verify(&good, 100).err(), Some(Refused::Invalid));
        let picky = Keys::new(Some("secret"), None, None, Some("us".into()), None).expect("keys");
        assert_eq!(picky.verify(&good, 100).err(), Some(Refused::Invalid));
    }
}
