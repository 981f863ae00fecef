//! The phases of a run: connect, publish, wait for the rest, tell.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{Config, Dialect, Scenario};
use super::doors::Workspace;
use super::plan::Plan;
use super::report::{Report, Sample};
use super::shared::{INTERVAL, Phase, Shared};
use super::worker::Worker;
use super::{meter, page};

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything arrived, once and in order.
    Good,
    /// Something is missing, doubled or out of order, or a connection ended.
    Failed,
    /// The generator was the limit: the figures say nothing about the server.
    Limited,
}

/// Without progress for so long, it is over.
const PATIENCE: Duration = Duration::from_secs(15);
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Of who comes again: longer than the longest pause.
const RETURN_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
/// Descriptors that are no connections.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Loads the server and tells what came of it, on stdout and into the files that were asked for.
///
/// # Errors
/// A sentence: what kept the run from being one.
pub fn run(config: &Config) -> Result<Verdict, String> {
    if cfg!(debug_assertions) {
        eprintln!(
            "campanile load: not an optimised build: the generator is slow (cargo run --release)"
        );
    }
    let workspace = Workspace::open(config)?;
    let mut word = [0; 4];
    getrandom::fill(&mut word).map_err(|error| format!("no random numbers: {error}"))?;
    let run = u32::from_ne_bytes(word);
    let plan = Plan::new(config, &workspace, run);
    descriptors(plan.seats.len() as u64 + u64::from(plan.visitors + config.threads))?;
    let pid = config.server_pid;
    if let Some(pid) = pid {
        meter::cpu_of(pid)
            .ok_or_else(|| format!("--server-pid {pid}: there is no such process"))?;
    }
    let rss_before = pid.and_then(meter::rss_of);
    let shared = Arc::new(Shared::new(config.clone(), plan, workspace, run));
    heed_signals(&shared)?;
    let mut threads = Vec::new();
    for me in 0..config.threads {
        let worker = Worker::new(&shared, me)?;
        let thread = std::thread::Builder::new().name(format!("load-{me}"));
        let thread = thread.spawn(move || worker.run());
        threads.push(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    let bar = bar(config);
    let connecting = Instant::now();
    let connected = connect(&shared, &bar);
    let connect_time = connecting.elapsed();
    if connected.is_ok() && bar.is_hidden() {
        eprintln!("campanile load: everybody is in");
    }
    let mut samples = Vec::new();
    let cpu_before = pid.and_then(meter::cpu_of);
    if connected.is_ok() && config.scenario != Scenario::Connect {
        shared.enter(Phase::Run);
        publish(&shared, &bar, &mut samples);
        shared.enter(Phase::Drain);
        drain(&shared, &bar);
    }
    let cpu =
        pid.and_then(meter::cpu_of).zip(cpu_before).map(|(now, then)| now.saturating_sub(then));
    let rss = pid.and_then(meter::rss_of);
    shared.enter(Phase::End);
    bar.finish_and_clear();
    let outcomes =
        threads.into_iter().map(|thread| thread.join().expect("a thread does not panic"));
    let outcomes = outcomes.collect();
    connected?;
    let report = Report::new(&shared, outcomes, samples, connect_time, (cpu, rss_before, rss));
    print!("{report}");
    let write = |file: &std::path::Path, text: String| {
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    if let Some(file) = &config.json {
        write(file, report.json())?;
    }
    if let Some(file) = &config.html {
        write(file, page::page(&report)?)?;
    }
    Ok(report.verdict())
}

/// The first SIGINT or SIGTERM ends the publishing, and what was published is told; the second ends everything.
fn heed_signals(shared: &Arc<Shared>) -> Result<(), String> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let fault = |error: std::io::Error| format!("cannot wait for signals: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(fault)?;
        let mut signals = {
            let _context = runtime.enter();
            signal(kind).map_err(fault)?
        };
        let shared = Arc::clone(shared);
        let heed = move || {
            while runtime.block_on(signals.recv()).is_some() {
                if shared.is_enough.swap(true, Ordering::AcqRel) {
                    std::process::exit(1);
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(heed);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    Ok(())
}

fn descriptors(wanted: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        // What is not allowed stays as it was.
        let _ = rustix::process::setrlimit(Resource::Nofile, all);
    }
    match getrlimit(Resource::Nofile).current {
        Some(all) if all < wanted + DESCRIPTORS_RESERVED => Err(format!(
            "{wanted} connections, and this process may open {all} files: raise it (ulimit -n), or run several of us"
        )),
        _ => Ok(()),
    }
}

fn bar(config: &Config) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} {elapsed}");
    bar.set_style(style.expect("a template"));
    bar.set_length(u64::from(config.connections));
    bar
}

/// Waits until everybody follows what they are to follow.
fn connect(shared: &Shared, bar: &ProgressBar) -> Result<(), String> {
    let all = shared.plan.seats.len() as u32 + shared.publishers();
    bar.set_message("connecting");
    bar.set_length(u64::from(all));
    let (mut known, mut since) = (0, Instant::now());
    loop {
        let up = shared.up.load(Ordering::Acquire);
        bar.set_position(u64::from(up));
        if up >= all {
            return Ok(());
        }
        if shared.is_enough.load(Ordering::Acquire) {
            return Err(format!("{up} of {all} came in when a signal ended it"));
        }
        let faults = shared.faults.lock().expect("nobody panics with it").clone();
        if faults.count > 0 {
            return Err(format!("{up} of {all} came in; {}", faults.first.join("; ")));
        }
        if up != known {
            (known, since) = (up, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(format!("{up} of {all} came in, and nobody more in {PATIENCE:?}"));
        }
        std::thread::sleep(LOOK);
    }
}

fn publish(shared: &Shared, bar: &ProgressBar, samples: &mut Vec<Sample>) {
    let (config, began) = (&shared.config, Instant::now());
    bar.set_message("publishing");
    bar.set_length(config.duration.as_millis() as u64);
    let mut cpu = config.server_pid.and_then(meter::cpu_of);
    let mut at = Instant::now();
    while began.elapsed() < config.duration && !shared.is_enough.load(Ordering::Acquire) {
        let next = began + (INTERVAL * (samples.len() as u32 + 1)).min(config.duration);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        bar.set_position(began.elapsed().as_millis() as u64);
        let now = config.server_pid.and_then(meter::cpu_of);
        let share = now
            .zip(cpu)
            .map(|(now, then)| now.saturating_sub(then).as_secs_f64() / at.elapsed().as_secs_f64());
        let rss_bytes = config.server_pid.and_then(meter::rss_of);
        samples.push(Sample { cpu: share, rss_bytes });
        (cpu, at) = (now, Instant::now());
    }
}

/// Waits for what is on its way, and for those who are coming back.
fn drain(shared: &Shared, bar: &ProgressBar) {
    bar.set_message("draining");
    let all = shared.plan.seats.len() as u32 + shared.publishers();
    let comes_again = shared.config.scenario == Scenario::Resume || shared.config.reconnect;
    let patience = if shared.config.reconnect { RETURN_PATIENCE } else { DRAIN_PATIENCE };
    let (mut known, mut since) = ((0, 0), Instant::now());
    loop {
        let delivered = shared.delivered.load(Ordering::Acquire);
        let up = shared.up.load(Ordering::Acquire);
        let is_whole = delivered >= shared.expected.load(Ordering::Acquire);
        let is_back = !comes_again || up >= all;
        if is_whole && is_back {
            // What is doubled comes behind.
            std::thread::sleep(INTERVAL);
            return;
        }
        if (delivered, up) != known {
            (known, since) = ((delivered, up), Instant::now());
        } else if since.elapsed() > if up < all { patience } else { DRAIN_PATIENCE } {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// For the report: what a connection is called.
pub(super) fn shown(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Centrifuge => "centrifuge",
        Dialect::Rtm => "rtm",
        Dialect::Raw => "raw",
        Dialect::Nats => "nats",
        Dialect::Pusher => "pusher",
    }
}
