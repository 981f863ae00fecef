//! Codes by which the dialect says what went wrong (`centrifuge.md` 4).

/// Why a command was refused: the code and message of an error reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Fault {
    /// We cannot now: the client tries again.
    Internal = 100,
    UnknownChannel = 102,
    PermissionDenied = 103,
    MethodNotFound = 104,
    AlreadySubscribed = 105,
    LimitExceeded = 106,
    BadRequest = 107,
    NotAvailable = 108,
    TokenExpired = 109,
    TooManyRequests = 111,
    UnrecoverablePosition = 112,
}

impl Fault {
    pub fn code(self) -> u32 {
        self as u32
    }
    pub fn text(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }
    /// Whether the client may say the same again.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

/// Why a connection ends: code and reason of the close frame. From 3500 on the client does not come back.
///
/// A reason is never empty and never parses as JSON: clients take such ones for something else (T3, T4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Disconnect {
    Shutdown = 3001,
    Expired = 3005,
    SubscriptionExpired = 3006,
    Slow = 3008,
    InsufficientState = 3010,
    ForceReconnect = 3011,
    NoPong = 3012,
    InvalidToken = 3500,
    BadRequest = 3501,
    Stale = 3502,
    ForceDisconnect = 3503,
    ChannelLimit = 3505,
    NotAvailable = 3508,
}

impl Disconnect {
    pub fn code(self) -> u16 {
        self as u16
    }
    pub fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Expired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::Slow => "slow",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ChannelLimit => "channel limit",
            Self::NotAvailable => "not available",
        }
    }
}

/// Why a subscription ends by us. From 2500 on the client subscribes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Unsubscribed {
    ByServer = 2000,
    /// An application's code: something that is no JSON was published, and the client speaks JSON.
    Unfit = 2400,
    InsufficientState = 2500,
    Expired = 2501,
}

impl Unsubscribed {
    pub fn code(self) -> u32 {
        self as u32
    }
    pub fn reason(self) -> &'static str {
        match self {
            Self::ByServer => "server unsubscribe",
            Self::Unfit => "binary publication",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_empty_or_json() {
        for reason in [
            Disconnect::Shutdown.reason(),
            Disconnect::Slow.reason(),
            Disconnect::Stale.reason(),
            Unsubscribed::ByServer.reason(),
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(reason).is_err(), "{reason:?}");
        }
    }
}
