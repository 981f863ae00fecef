//! What is told: a table for people, figures for programs.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::run::{Verdict, shown};
use super::shared::{INTERVAL, Outcome, Shared};
use super::tally;

/// The figures of a run. Names and meanings do not change; new ones may come.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: String,
    dialect: &'static str,
    seed: u64,
    connections: u64,
    channels: u64,
    subscriptions: u64,
    payload_bytes: u64,
    /// From the first publication to the last.
    seconds: f64,
    published: u64,
    deliveries: u64,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    /// Connections that the server ended, and slow readers among those that were meant to be slow.
    ended: u64,
    evicted: u64,
    /// Subscriptions that came back and were told that something is lost.
    unrecovered: u64,
    /// With `--reconnect`: connections that were lost and came again, or tried to; of followers, and of who publishes.
    lost: u64,
    publisher_lost: u64,
    /// Publications that the server refused, and that it never answered.
    refused: u64,
    unanswered: u64,
    /// Deliveries a second.
    rate: f64,
    /// From the instant at which a publication was due to its delivery.
    latency_us: Spread,
    /// From the first attempt, or the drop, to everything followed.
    connect_us: Spread,
    /// From the loss of a connection to everything followed again.
    back_us: Spread,
    connects_per_second: f64,
    server: Server,
    generator: Generator,
    faults: u64,
    first_faults: Vec<String>,
    series: Vec<Point>,
}

#[derive(Debug, Serialize)]
pub(super) struct Spread {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// `None`: without `--server-pid`.
#[derive(Debug, Serialize)]
struct Server {
    cpu_us_per_delivery: Option<f64>,
    /// CPUs, on average.
    cpu: Option<f64>,
    rss_bytes: Option<u64>,
    /// What it grew by, for each connection, and for each channel.
    rss_bytes_per_connection: Option<f64>,
    rss_bytes_per_channel: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Generator {
    /// Share of a CPU of its busiest thread.
    cpu: f64,
    /// Publications that went out more than two milliseconds after they were due.
    late: u64,
    limited: bool,
}

/// A quarter of a second of the run.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub(super) seconds: f64,
    pub(super) rate: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) server_cpu: Option<f64>,
    pub(super) server_rss_bytes: Option<u64>,
}

/// What the main thread saw in such a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) cpu: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
}

/// Above it a thread of ours was the limit.
const BUSY: f64 = 0.95;
/// So many of all publications may be late.
const LATE_SHARE: f64 = 0.05;

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

impl Report {
    pub(super) fn new(
        shared: &Shared,
        outcomes: Vec<Outcome>,
        samples: Vec<Sample>,
        connect_time: Duration,
        (cpu, rss_before, rss): (Option<Duration>, Option<u64>, Option<u64>),
    ) -> Self {
        let config = &shared.config;
        let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        let merged = |of: fn(&Outcome) -> &Histogram<u64>| {
            let mut all = Histogram::new(3).expect("three digits");
            for one in &outcomes {
                all.add(of(one)).expect("it grows");
            }
            all
        };
        let connects = merged(|one| &one.connects);
        let latency = merged(|one| &one.latency);
        let backs = merged(|one| &one.backs);
        let unsaid = outcomes.iter().flat_map(|one| one.refused.iter().chain(&one.unanswered));
        // Without `--reconnect` everything that was published is owed.
        let unsaid = unsaid.filter(|_| config.reconnect).copied().collect();
        let tallies = outcomes.iter().map(|one| &one.tally);
        let wrong = tally::judge(tallies, &unsaid, &shared.plan.followers);
        let busy =
            outcomes.iter().map(|one| one.cpu.as_secs_f64() / one.time.as_secs_f64().max(1e-9));
        let generator_cpu = busy.fold(0.0, f64::max);
        let seconds = outcomes.iter().map(|one| one.time.as_secs_f64()).fold(0.0, f64::max);
        let deliveries = sum(|one| one.tally.deliveries);
        let published: u64 =
            shared.published.iter().map(|one| u64::from(one.load(Ordering::Acquire))).sum();
        let late = sum(|one| one.late);
        let faults = shared.faults.lock().expect("nobody panics with it").clone();
        let conns = shared.plan.seats.len() as u64;
        let channels = shared.plan.channels.len() as u64;
        let grown = rss.zip(rss_before).map(|(now, then)| now.saturating_sub(then) as f64);
        let each = |count: u64| grown.filter(|_| count > 0).map(|bytes| bytes / count as f64);
        let per_delivery =
            cpu.filter(|_| deliveries > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / deliveries as f64);
        let is_late = published > 0 && late as f64 > published as f64 * LATE_SHARE;
        Self {
            scenario: config
                .scenario
                .to_possible_value()
                .map_or_else(String::new, |one| one.get_name().into()),
            dialect: shown(config.dialect),
            seed: config.seed,
            connections: conns,
            channels,
            subscriptions: shared.plan.seats.iter().map(|seats| seats.len() as u64).sum(),
            payload_bytes: config.bytes as u64,
            seconds,
            published,
            deliveries,
            missing: wrong.missing,
            duplicates: wrong.duplicates,
            out_of_order: wrong.out_of_order,
            ended: sum(|one| one.ended),
            evicted: sum(|one| one.evicted),
            unrecovered: sum(|one| one.unrecovered),
            lost: sum(|one| one.lost),
            publisher_lost: sum(|one| one.publisher_lost),
            refused: sum(|one| one.refused.len() as u64),
            unanswered: sum(|one| one.unanswered.len() as u64),
            rate: if seconds > 0.0 { deliveries as f64 / seconds } else { 0.0 },
            latency_us: Spread::of(&latency),
            connect_us: Spread::of(&connects),
            back_us: Spread::of(&backs),
            connects_per_second: conns as f64 / connect_time.as_secs_f64().max(1e-9),
            server: Server {
                cpu_us_per_delivery: per_delivery,
                cpu: cpu.filter(|_| seconds > 0.0).map(|cpu| cpu.as_secs_f64() / seconds),
                rss_bytes: rss,
                rss_bytes_per_connection: each(conns),
                rss_bytes_per_channel: each(channels),
            },
            generator: Generator {
                cpu: generator_cpu,
                late,
                limited: generator_cpu > BUSY || is_late,
            },
            faults: faults.count,
            first_faults: faults.first,
            series: points(&outcomes, &samples),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        let is_whole =
            self.missing + self.duplicates + self.out_of_order + self.ended + self.unrecovered == 0;
        match (is_whole, self.generator.limited) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Limited,
            (true, false) => Verdict::Good,
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures are JSON")
    }

    pub(super) fn series(&self) -> &[Point] {
        &self.series
    }

    pub(super) fn title(&self) -> String {
        format!(
            "{} · {} · {} connections, {} channels, {} subscriptions, {} bytes",
            self.scenario,
            self.dialect,
            self.connections,
            self.channels,
            self.subscriptions,
            self.payload_bytes
        )
    }

    /// Names and values, in order.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let known = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "not asked".into(), |value| format!("{value:.2} {unit}"))
        };
        let spread = |spread: &Spread| {
            let Spread { p50, p90, p99, p999, max } = spread;
            format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max} µs")
        };
        let mut rows = vec![(
            "connected",
            format!("{} a second; {}", self.connects_per_second as u64, spread(&self.connect_us)),
        )];
        if self.published > 0 {
            rows.extend([
                ("published", format!("{} in {:.2} s", self.published, self.seconds)),
                ("deliveries", format!("{}, {:.0} a second", self.deliveries, self.rate)),
                (
                    "wrong",
                    format!(
                        "{} missing, {} doubled, {} out of order",
                        self.missing, self.duplicates, self.out_of_order
                    ),
                ),
                ("latency", spread(&self.latency_us)),
            ]);
        }
        if self.ended + self.evicted + self.unrecovered > 0 {
            rows.push((
                "ended",
                format!(
                    "{} connections, {} slow ones, {} subscriptions not recovered",
                    self.ended, self.evicted, self.unrecovered
                ),
            ));
        }
        if self.refused + self.unanswered > 0 {
            let text = format!("{} refused, {} never answered", self.refused, self.unanswered);
            rows.push(("not taken", text));
        }
        if self.lost + self.publisher_lost > 0 {
            rows.push((
                "came again",
                format!(
                    "after {} lost connections, {} of who publishes; {}",
                    self.lost,
                    self.publisher_lost,
                    spread(&self.back_us)
                ),
            ));
        }
        let server = &self.server;
        rows.push((
            "server CPU",
            format!(
                "{}, {}",
                known(server.cpu_us_per_delivery, "µs a delivery"),
                known(server.cpu, "CPUs")
            ),
        ));
        rows.push((
            "server memory",
            format!(
                "{}; grew by {}, {}",
                known(server.rss_bytes.map(|bytes| bytes as f64 / 1e6), "MB"),
                known(server.rss_bytes_per_connection, "bytes a connection"),
                known(server.rss_bytes_per_channel, "bytes a channel"),
            ),
        ));
        rows.push((
            "generator",
            format!(
                "{:.0} % of a CPU in its busiest thread, {} publications late",
                self.generator.cpu * 100.0,
                self.generator.late
            ),
        ));
        rows
    }

    /// What is wrong with the run, in plain words.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.first_faults.clone();
        if self.faults > remarks.len() as u64 {
            remarks.push(format!("{} faults in all", self.faults));
        }
        if self.generator.limited {
            remarks.push("The generator, not the server, was the limit: these figures say nothing about the server. Give it more threads and CPUs, or ask for less.".into());
        }
        if self.verdict() == Verdict::Failed {
            remarks.push("FAILED: not everything arrived, once and in order, at everybody.".into());
        }
        remarks
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        for (name, value) in self.rows() {
            writeln!(f, "  {name:14} {value}")?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "  {remark}"))
    }
}

fn points(outcomes: &[Outcome], samples: &[Sample]) -> Vec<Point> {
    let step = INTERVAL.as_secs_f64();
    let point = |(nth, sample): (usize, &Sample)| {
        let intervals = outcomes.iter().filter_map(|one| one.series.get(nth));
        let mut latency: Histogram<u32> = Histogram::new(2).expect("two digits");
        let mut deliveries = 0;
        for interval in intervals {
            latency.add(&interval.latency).expect("it grows");
            deliveries += interval.deliveries;
        }
        Point {
            seconds: nth as f64 * step,
            rate: deliveries as f64 / step,
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            server_cpu: sample.cpu,
            server_rss_bytes: sample.rss_bytes,
        }
    };
    samples.iter().enumerate().map(point).collect()
}
