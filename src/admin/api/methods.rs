//! From a method's name to what it does.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::placing::{Once, Placed, Placing};
use super::{Api, census, wrapped};
use crate::centrifuge::code::Fault;
use crate::centrifuge::message::{HistoryRequest, Publication};
use crate::centrifuge::order::Order;
use crate::centrifuge::payload::Marks;
use crate::centrifuge::{history, push};
use crate::wire::message::order;

pub(super) const NAMES: [&str; 13] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "info",
    "batch",
];

/// Publications on their way at once for one request: more of a batch wait for these.
const PLACING_MAX: usize = 1_024;
/// Channels of one broadcast, commands of one batch.
const LIST_MAX: usize = 10_000;

/// What a `publish` says; a `broadcast` has a list of channels instead.
#[derive(Deserialize)]
struct Publish<'a> {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    delta: bool,
    #[serde(default)]
    skip_history: bool,
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    version_epoch: String,
}

#[derive(Deserialize)]
struct Channel {
    #[serde(default)]
    channel: String,
}

/// Bytes of an order: it goes to every core.
const ORDER_BYTES_MAX: usize = 64 << 10;

async fn ordered(api: &Api, what: u8, arguments: &RawValue) -> Result<Value, Fault> {
    let order = Order::read(arguments.get().as_bytes())?;
    if what == order::SUBSCRIBE {
        api.options(&order.channel)?;
    }
    if arguments.get().len() > ORDER_BYTES_MAX {
        return Err(Fault::LimitExceeded);
    }
    api.order(what, arguments.get()).await?;
    Ok(json!({}))
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    commands: Vec<BTreeMap<&'a str, &'a RawValue>>,
}

/// Does what one request asks for.
pub(super) async fn call(api: &Api, method: &str, arguments: &RawValue) -> Result<Value, Fault> {
    match method {
        "publish" => publish(api, read(arguments)?).await,
        "broadcast" => broadcast(api, read(arguments)?).await,
        "subscribe" => ordered(api, order::SUBSCRIBE, arguments).await,
        "unsubscribe" => ordered(api, order::UNSUBSCRIBE, arguments).await,
        "disconnect" => ordered(api, order::DISCONNECT, arguments).await,
        "refresh" => ordered(api, order::REFRESH, arguments).await,
        "presence" => {
            let (_, presence) = api.present(&read::<Channel>(arguments)?.channel, true).await?;
            Ok(json!(presence))
        }
        "presence_stats" => {
            let (stats, _) = api.present(&read::<Channel>(arguments)?.channel, false).await?;
            Ok(json!(stats))
        }
        "history" => history(api, read(arguments)?).await,
        "history_remove" => {
            api.erase(&read::<Channel>(arguments)?.channel).await?;
            Ok(json!({}))
        }
        "channels" => census::channels(api, read(arguments)?).await,
        "info" => census::info(api).await,
        "batch" => batch(api, read(arguments)?).await,
        _ => Err(Fault::MethodNotFound),
    }
}

fn read<'a, T: Deserialize<'a>>(arguments: &'a RawValue) -> Result<T, Fault> {
    serde_json::from_str(arguments.get()).map_err(|_| Fault::BadRequest)
}

impl Publish<'_> {
    fn once(&self) -> Once {
        Once {
            key: self.idempotency_key.clone(),
            version: self.version,
            era: self.version_epoch.clone(),
            is_passing: self.skip_history,
        }
    }

    fn publication(&self) -> Result<(Publication, Marks), Fault> {
        let data = match (&self.data, &self.b64data) {
            (_, Some(text)) => STANDARD.decode(text).map_err(|_| Fault::BadRequest)?,
            (Some(raw), None) => raw.get().as_bytes().to_vec(),
            (None, None) => return Err(Fault::BadRequest),
        };
        let (marks, data) = Marks::of(data, self.delta);
        Ok((Publication { data, tags: self.tags.clone(), ..Publication::default() }, marks))
    }
}

fn shown(placed: Placed) -> Value {
    placed.map_or_else(|| json!({}), |(offset, epoch)| json!({ "offset": offset, "epoch": epoch }))
}

/// A publication that can be sent, once more if it must be.
struct Ready {
    channel: String,
    publication: Publication,
    marks: Marks,
    once: Once,
}

impl Ready {
    fn of(arguments: Publish<'_>) -> Result<Self, Fault> {
        let (publication, marks) = arguments.publication()?;
        let once = arguments.once();
        Ok(Self { channel: arguments.channel, publication, marks, once })
    }

    fn place(&self, api: &Api) -> Result<Placing, Fault> {
        api.place(&self.channel, &self.publication, self.marks, &self.once)
    }

    async fn placed(&self, api: &Api, placing: Placing) -> Result<Value, Fault> {
        api.placed(&self.channel, placing, || self.place(api)).await.map(shown)
    }
}

async fn publish(api: &Api, arguments: Publish<'_>) -> Result<Value, Fault> {
    let ready = Ready::of(arguments)?;
    let placing = ready.place(api)?;
    ready.placed(api, placing).await
}

async fn broadcast(api: &Api, arguments: Publish<'_>) -> Result<Value, Fault> {
    if arguments.channels.is_empty() || arguments.channels.len() > LIST_MAX {
        return Err(Fault::BadRequest);
    }
    let (publication, marks) = arguments.publication()?;
    let once = arguments.once();
    let mut responses = Vec::with_capacity(arguments.channels.len());
    for channels in arguments.channels.chunks(PLACING_MAX) {
        let place = |channel: &str| api.place(channel, &publication, marks, &once);
        let placing: Vec<_> = channels.iter().map(|channel| place(channel)).collect();
        for (channel, placing) in channels.iter().zip(placing) {
            responses.push(wrapped(match placing {
                Ok(placing) => api.placed(channel, placing, || place(channel)).await.map(shown),
                Err(fault) => Err(fault),
            }));
        }
    }
    Ok(json!({ "responses": responses }))
}

async fn history(api: &Api, request: HistoryRequest) -> Result<Value, Fault> {
    let channel = &request.channel;
    let options = api.options(channel)?;
    if !options.has_stream() {
        return Err(Fault::NotAvailable);
    }
    history::check(&request)?;
    let stream = api.read(channel, 0, 0).await?;
    let span = history::span(&request, options.history_count, stream.epoch, stream.tip)?;
    let mut publications = Vec::new();
    if !span.is_empty() {
        publications =
            api.read(channel, span.start, (span.end - span.start) as u32).await?.publications;
        publications.retain(|publication| publication.offset <= span.end);
    }
    if request.reverse {
        publications.reverse();
    }
    let epoch = push::epoch(stream.epoch);
    Ok(json!({ "publications": publications, "epoch": epoch, "offset": stream.tip }))
}

/// Publications go out together, and everything keeps its order; the answers are in the order of the commands.
async fn batch(api: &Api, arguments: Batch<'_>) -> Result<Value, Fault> {
    if arguments.commands.len() > LIST_MAX {
        return Err(Fault::BadRequest);
    }
    let mut replies = Vec::with_capacity(arguments.commands.len());
    for commands in arguments.commands.chunks(PLACING_MAX) {
        let mut begun = Vec::with_capacity(commands.len());
        for command in commands {
            let one = command.iter().next().filter(|_| command.len() == 1);
            begun.push(match one {
                Some((&"publish", arguments)) => {
                    Begun::Publish(read(arguments).and_then(Ready::of).and_then(|ready| {
                        let placing = ready.place(api)?;
                        Ok(Box::new((ready, placing)))
                    }))
                }
                Some((&"batch", _)) | None => Begun::Done("error", Err(Fault::BadRequest)),
                Some((method, arguments)) => {
                    Begun::Done(method, Box::pin(call(api, method, arguments)).await)
                }
            });
        }
        for one in begun {
            let (method, outcome) = match one {
                Begun::Publish(Ok(sent)) => {
                    let (ready, placing) = *sent;
                    ("publish", ready.placed(api, placing).await)
                }
                Begun::Publish(Err(fault)) => ("publish", Err(fault)),
                Begun::Done(method, outcome) => (method, outcome),
            };
            replies.push(match outcome {
                Ok(result) => json!({ method: result }),
                Err(fault) => wrapped(Err(fault)),
            });
        }
    }
    Ok(json!({ "replies": replies }))
}

enum Begun<'a> {
    Publish(Result<Box<(Ready, Placing)>, Fault>),
    Done(&'a str, Result<Value, Fault>),
}
