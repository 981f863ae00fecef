//! What the world knows and the node does not: the truth by which everything is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checker::Checker;
use crate::coverage::Coverage;
use crate::database::Database;
use crate::streams::Streams;
use crate::trace::Trace;

#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) database: Database,
    pub(crate) checker: Checker,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) streams: Streams,
    /// Typing events that clients sent, by user and conversation.
    pub(crate) typed: BTreeMap<(String, String), u64>,
    /// Gateways ask others for channels: what has no place may come by both when that changes.
    pub(crate) has_relays: bool,
    /// Nothing goes wrong between nodes and cores.
    pub(crate) is_calm: bool,
    /// What clients are promised.
    pub(crate) replay_per_channel_max: u64,
    pub(crate) replay_per_conn_max: u64,
    pub(crate) ticket_timeout: Duration,
    /// Bytes of a message's text, so that its edit fits a publication.
    pub(crate) text_max: usize,
}
