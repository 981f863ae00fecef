//! `/metrics` and `/health`: asks every place how it is, and waits only a moment for an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot, watch};

use super::letters::{Letter, LetterBox};
use super::papers::Papers;
use super::refusals::Refusals;
use super::stats::{Gauges, Stats};
use crate::ops::metrics::{Sample, render};
use crate::shard::Counter;

/// A core that does not answer for so long is not well.
const ANSWER: Duration = Duration::from_secs(2);

/// Where to ask. Shared by all requests.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    cores: Vec<LetterBox>,
    stats: Vec<Stats>,
    control: mpsc::Sender<oneshot::Sender<Gauges>>,
    control_stats: Stats,
    began: Instant,
    /// Of a node of a cell.
    links: Option<(Refusals, Option<watch::Receiver<Arc<Papers>>>)>,
}

impl Watch {
    pub(super) fn new(
        cores: Vec<LetterBox>,
        stats: Vec<Stats>,
        control: mpsc::Sender<oneshot::Sender<Gauges>>,
        control_stats: Stats,
    ) -> Self {
        Self { cores, stats, control, control_stats, began: Instant::now(), links: None }
    }

    /// Tells of links between nodes, too.
    pub(super) fn with_links(
        self,
        refusals: Refusals,
        papers: Option<watch::Receiver<Arc<Papers>>>,
    ) -> Self {
        Self { links: Some((refusals, papers)), ..self }
    }
}

pub(super) fn router(watch: Watch) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(watch)
}

async fn metrics(State(watch): State<Watch>) -> Response {
    let mut samples = Vec::new();
    for (core, (letter_box, stats)) in watch.cores.iter().zip(&watch.stats).enumerate() {
        let core = core.to_string();
        counters(stats, &core, &mut samples);
        gauges(ask_core(letter_box).await, &core, &mut samples);
    }
    counters(&watch.control_stats, "control", &mut samples);
    let (answer, answered) = oneshot::channel();
    if watch.control.try_send(answer).is_ok() {
        let answered = tokio::time::timeout(ANSWER, answered).await;
        gauges(answered.ok().and_then(Result::ok), "control", &mut samples);
    }
    if let Some((refusals, papers)) = &watch.links {
        samples.extend(refusals.samples());
        if let Some(papers) = papers {
            let left = papers.borrow().seconds_left();
            samples.push(Sample::gauge("tls_certificate_seconds_left", Vec::new(), left));
        }
    }
    let uptime = watch.began.elapsed().as_secs_f64();
    samples.push(Sample::gauge("uptime_seconds", Vec::new(), uptime));
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], render(&samples)).into_response()
}

/// Well is a node whose cores and control plane answer.
async fn health(State(watch): State<Watch>) -> Response {
    let mut is_well = true;
    for letter_box in &watch.cores {
        is_well &= ask_core(letter_box).await.is_some();
    }
    if is_well {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a core does not answer\n").into_response()
    }
}

async fn ask_core(letter_box: &LetterBox) -> Option<Gauges> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        letter_box.deliver(Letter::Report(answer)).await;
        answered.await.ok()
    };
    tokio::time::timeout(ANSWER, asked).await.ok()?
}

fn counters(stats: &Stats, core: &str, samples: &mut Vec<Sample>) {
    for &what in Counter::ALL {
        let labels = vec![("core", core.to_string())];
        samples.push(Sample::total(what.name(), labels, stats.of(what)));
    }
}

fn gauges(gauges: Option<Gauges>, core: &str, samples: &mut Vec<Sample>) {
    for (role, name, value) in gauges.unwrap_or_default().0 {
        let labels = vec![("core", core.to_string()), ("role", role.as_str().to_string())];
        samples.push(Sample::gauge(name, labels, value));
    }
}

/// Until no core has a connection, or `at_most` has passed.
pub(super) async fn until_nobody_is_left(cores: &[LetterBox], at_most: Duration) {
    const LOOK: Duration = Duration::from_millis(20);
    let end = tokio::time::Instant::now() + at_most;
    while tokio::time::Instant::now() < end {
        let mut left = 0.0;
        for letter_box in cores {
            // Of one that does not answer nobody knows.
            let Some(Gauges(gauges)) = ask_core(letter_box).await else {
                left += 1.0;
                continue;
            };
            let connections = gauges.iter().filter(|(_, name, _)| *name == "connections");
            left += connections.map(|one| one.2).sum::<f64>();
        }
        if left == 0.0 {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
