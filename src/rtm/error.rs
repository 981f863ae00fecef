//! Every fault that a client can be told, with its code and its sentence.

/// What was wrong, or cannot be done. Codes 1, 2 and -1 and their texts are Slack's, clients compare them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The ticket is unknown, used, or too old.
    Expired,
    TextMissing,
    TooFast,
    /// Not JSON, or too deeply nested.
    Malformed,
    /// JSON, but no object.
    NoObject,
    TypeMissing,
    TypeUnknown,
    /// A field has another type than it should.
    Field(&'static str),
    ChannelMissing,
    /// The client does not follow the channel.
    NotInChannel,
    TextTooLong,
    /// More users at once than presence is told of.
    TooManyIds,
    /// `resume` where no positions are waited for.
    ResumeUnexpected,
    /// The last `resume` frame did not come in time.
    ResumeTimeout,
    /// The connection did not say hello yet.
    NotReady,
    /// A question like this one is open already.
    StillAsking,
    /// We are full, or somebody whom we need is away: try again later.
    Unavailable,
    TooManyConnections,
    TooManyChannels,
    /// A post ended without a word: it may be stored or not.
    Unknown,
    /// The token that the client came in by was revoked.
    Revoked,
}

impl Fault {
    pub fn code(self) -> i32 {
        match self {
            Self::TooFast => -1,
            Self::Expired => 1,
            Self::TextMissing => 2,
            Self::Malformed => 3,
            Self::NoObject => 4,
            Self::TypeMissing => 5,
            Self::TypeUnknown => 6,
            Self::Field(_) => 7,
            Self::ChannelMissing => 8,
            Self::NotInChannel => 9,
            Self::TextTooLong => 10,
            Self::TooManyIds => 11,
            Self::ResumeUnexpected => 12,
            Self::ResumeTimeout => 13,
            Self::NotReady => 14,
            Self::StillAsking => 15,
            Self::Unavailable => 16,
            Self::TooManyConnections => 17,
            Self::TooManyChannels => 18,
            Self::Unknown => 19,
            Self::Revoked => 20,
        }
    }

    /// The sentence, for people; and where Slack has one, the very same.
    pub fn text(self) -> &'static str {
        match self {
            Self::TooFast => "slow down, too many messages...",
            Self::Expired => "Socket URL has expired",
            Self::TextMissing => "message text is missing",
            Self::Malformed => "the frame is not JSON",
            Self::NoObject => "the frame is not a JSON object",
            Self::TypeMissing => "type is missing",
            Self::TypeUnknown => "type is not known",
            Self::Field(what) => what,
            Self::ChannelMissing => "channel is missing",
            Self::NotInChannel => "not_in_channel",
            Self::TextTooLong => "msg_too_long",
            Self::TooManyIds => "too many ids",
            Self::ResumeUnexpected => "resume is not expected here",
            Self::ResumeTimeout => "the last resume frame did not come",
            Self::NotReady => "wait for hello",
            Self::StillAsking => "a question is unanswered still",
            Self::Unavailable => "not available now, try again",
            Self::TooManyConnections => "too many connections",
            Self::TooManyChannels => "too many channels",
            Self::Unknown => "it is not known whether the message was stored",
            Self::Revoked => "token_revoked",
        }
    }
}

/// The code of a post that was refused by the webapp with this name.
pub(super) fn code_of(reason: &str) -> i32 {
    match reason {
        "no_text" => Fault::TextMissing.code(),
        "not_in_channel" => Fault::NotInChannel.code(),
        "msg_too_long" => Fault::TextTooLong.code(),
        "ratelimited" => Fault::Unavailable.code(),
        _ => 100,
    }
}
