//! What all threads of a run share, and what each has to tell at its end.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

use super::arguments::Config;
use super::doors::Workspace;
use super::plan::{Pace, Plan};
use super::tally::Tally;

/// What all threads of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) workspace: Arc<Workspace>,
    /// See [`Mark::run`].
    pub(super) run: u32,
    pub(super) start: Instant,
    phase: AtomicU32,
    /// When publishing began, in nanoseconds since the start.
    pub(super) from_ns: AtomicU64,
    /// Connections that follow all that they are to follow, and those that publish.
    pub(super) up: AtomicU32,
    /// Deliveries to those who are waited for: that are due, and that came.
    pub(super) expected: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// By channel.
    pub(super) published: Vec<AtomicU32>,
    pub(super) faults: Mutex<Faults>,
    /// The numbers of channels.
    pub(super) numbers: FxHashMap<String, u32>,
    /// A signal said that enough is published.
    pub(super) is_enough: AtomicBool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) count: u64,
    /// The first few.
    pub(super) first: Vec<String>,
}

/// What happens now. The main thread says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u32)]
pub(super) enum Phase {
    Connect,
    Run,
    /// Nothing more is published.
    Drain,
    End,
}

const FAULTS_SHOWN: usize = 5;

/// What a thread has to tell at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// Microseconds from due to heard, after the warm-up.
    pub(super) latency: Histogram<u64>,
    /// Microseconds from the first attempt to everything followed; in `resume`: from the drop.
    pub(super) connects: Histogram<u64>,
    /// Microseconds from the loss of a connection to everything followed again.
    pub(super) backs: Histogram<u64>,
    pub(super) series: Vec<Interval>,
    /// Publications that went out more than two milliseconds after they were due.
    pub(super) late: u64,
    /// Connections that the server ended: others, and slow ones.
    pub(super) ended: u64,
    pub(super) evicted: u64,
    pub(super) unrecovered: u64,
    /// Connections that were lost and came again, or tried to: of followers, and of who publishes.
    pub(super) lost: u64,
    pub(super) publisher_lost: u64,
    /// Publications by channel and number: what the server refused, and what it never answered.
    pub(super) refused: Vec<(u32, u32)>,
    pub(super) unanswered: Vec<(u32, u32)>,
    /// CPU time of this thread, of the time from the first publication to the last.
    pub(super) cpu: Duration,
    pub(super) time: Duration,
}

/// A quarter of a second.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) deliveries: u64,
    pub(super) latency: Histogram<u32>,
}

pub(super) const INTERVAL: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) fn new(config: Config, plan: Plan, workspace: Workspace, run: u32) -> Self {
        let numbers = plan.channels.iter().cloned().zip(0..).collect();
        let published = plan.channels.iter().map(|_| AtomicU32::new(0)).collect();
        Self {
            config,
            plan,
            workspace: Arc::new(workspace),
            run,
            start: Instant::now(),
            phase: AtomicU32::new(Phase::Connect as u32),
            from_ns: AtomicU64::new(u64::MAX),
            up: AtomicU32::new(0),
            expected: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            published,
            faults: Mutex::default(),
            numbers,
            is_enough: AtomicBool::new(false),
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::Run,
            2 => Phase::Drain,
            _ => Phase::End,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Run {
            self.from_ns.store(self.now_ns(), Ordering::Release);
        }
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// How many threads publish.
    pub(super) fn publishers(&self) -> u32 {
        match self.plan.pace {
            Pace::Never => 0,
            // One thread has to know what is on its way.
            Pace::Outstanding(_) => 1,
            Pace::Every { .. } => self.config.threads.min(self.plan.channels.len() as u32),
        }
    }

    pub(super) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().expect("nobody panics with it");
        faults.count += 1;
        if faults.first.len() < FAULTS_SHOWN && !faults.first.contains(&what) {
            faults.first.push(what);
        }
    }
}
