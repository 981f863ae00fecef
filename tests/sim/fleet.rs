//! Many worlds, one thread each at a time; what they found, in lines that replay it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::canary::{CANARIES, Canary};
use crate::checker::Violation;
use crate::coverage::Coverage;
use crate::world::{Options, Outcome, World};

/// One seed in so many is run twice: the second time everything must be the same.
const TWICE: u64 = 100;
/// A run of at least so many seeds must have seen everything.
const COVERED_FROM: u64 = 1_000;
/// Failing seeds that are told.
const TOLD_MAX: usize = 10;
/// A long run says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Runs one seed; a panic of the product is a violation too.
fn run(seed: u64, options: Options) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, options).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Outcome {
            violation: Some(Violation(format!("panic: {text}"))),
            hash: 0,
            happenings: 0,
            age: Duration::ZERO,
            coverage: Coverage::new(),
            plan: Vec::new(),
        }
    })
}

fn options(arguments: Arguments, canary: Option<Canary>) -> Options {
    let Arguments { turns: happenings_max, without, .. } = arguments;
    Options { canary, is_told: false, happenings_max, without }
}

/// One seed again: what is wrong.
pub(crate) fn replay(seed: u64) -> Option<String> {
    let options = Options { canary: None, is_told: false, happenings_max: 3_000_000, without: 0 };
    run(seed, options).violation.map(|violation| violation.0)
}

/// One seed, told in full. True: it is good.
pub(crate) fn one(seed: u64, arguments: Arguments) -> bool {
    let plain = options(arguments, None);
    if arguments.shrink {
        return shrink(seed, plain);
    }
    let outcome = run(seed, Options { is_told: true, ..plain });
    for (at, planned) in outcome.plan.iter().enumerate() {
        println!("fault {at}: {planned:?}");
    }
    println!(
        "seed {seed}: {} happenings, {:.1} s, hash {:016x}",
        outcome.happenings,
        outcome.age.as_secs_f64(),
        outcome.hash
    );
    match outcome.violation {
        Some(Violation(what)) => println!("VIOLATION: {what}"),
        None => println!("good"),
    }
    run(seed, plain).violation.is_none()
}

/// Leaves out one fault after the other, as long as the seed still fails in the same way.
fn shrink(seed: u64, mut options: Options) -> bool {
    let first = run(seed, options);
    let Some(violation) = first.violation else {
        println!("seed {seed} is good");
        return true;
    };
    let class = class_of(&violation);
    for at in 0..first.plan.len().min(63) {
        let fewer = Options { without: options.without | 1 << at, ..options };
        if run(seed, fewer).violation.is_some_and(|other| class_of(&other) == class) {
            options = fewer;
        }
    }
    let last = run(seed, options);
    for planned in &last.plan {
        println!("{planned:?}");
    }
    println!("VIOLATION: {}", last.violation.map_or_else(String::new, |violation| violation.0));
    println!("cargo sim -- --seed {seed} --without {}", options.without);
    false
}

/// The invariant that is broken.
fn class_of(violation: &Violation) -> String {
    violation.0.split(':').next().unwrap_or_default().into()
}

/// What came of many worlds.
struct Sum {
    coverage: Coverage,
    seeds: u64,
    happenings: u64,
    /// Virtual time.
    age_s: f64,
    /// Of all worlds, in whatever order they come.
    digest: u64,
    failed: u64,
    /// The lowest seeds that failed.
    told: BTreeMap<u64, Violation>,
    /// When it was last said how far we are.
    said: Instant,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.coverage.merge(&outcome.coverage);
        self.seeds += 1;
        self.happenings += outcome.happenings;
        self.age_s += outcome.age.as_secs_f64();
        self.digest = self.digest.wrapping_add(outcome.hash.wrapping_mul(seed * 2 + 1));
        if let Some(violation) = outcome.violation {
            self.failed += 1;
            self.told.insert(seed, violation);
            if self.told.len() > TOLD_MAX {
                self.told.pop_last();
            }
        }
        // A long run may be ended by somebody: what it found is known by then.
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            println!("{} seeds so far, {} failed", self.seeds, self.failed);
            self.tell(1);
        }
    }

    /// So many of the seeds that failed, and how to see each in full.
    fn tell(&self, count: usize) {
        for (seed, Violation(what)) in self.told.iter().take(count) {
            let cut: String = what.chars().take(400).collect();
            println!("seed {seed}: {cut}\n  cargo sim -- --seed {seed}");
        }
    }
}

/// Many seeds. True: all are good, and everything was seen.
pub(crate) fn many(arguments: Arguments) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let next = AtomicU64::new(arguments.from);
    let sum = Mutex::new(Sum {
        coverage: Coverage::new(),
        seeds: 0,
        happenings: 0,
        age_s: 0.0,
        digest: 0,
        failed: 0,
        told: BTreeMap::new(),
        said: began,
    });
    let options = options(arguments, None);
    let has_failed = AtomicBool::new(false);
    let is_late =
        || arguments.minutes.is_some_and(|minutes| began.elapsed().as_secs() >= minutes * 60);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - arguments.from >= arguments.seeds
                        || has_failed.load(Ordering::Relaxed)
                        || is_late()
                    {
                        return;
                    }
                    let mut outcome = run(seed, options);
                    if seed.is_multiple_of(TWICE) && outcome.violation.is_none() {
                        let again = run(seed, options);
                        if again.hash != outcome.hash {
                            let what = "I30: the second time it was another world".into();
                            outcome.violation = Some(Violation(what));
                        }
                    }
                    if outcome.violation.is_some() {
                        has_failed.store(arguments.first, Ordering::Relaxed);
                    }
                    sum.lock().expect("nobody panics with it").add(seed, outcome);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("nobody panicked with it");
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} seeds in {took:.1} s ({:.0} a second): {} happenings, {:.1} hours of virtual time, digest {:016x}, {} failed",
        sum.seeds,
        sum.seeds as f64 / took,
        sum.happenings,
        sum.age_s / 3_600.0,
        sum.digest,
        sum.failed
    );
    if arguments.table {
        println!("{}", sum.coverage.table());
    }
    sum.tell(TOLD_MAX);
    if arguments.first {
        return sum.failed == 0;
    }
    if let Some((seed, _)) = sum.told.first_key_value() {
        shrink(*seed, options);
    }
    let missing = sum.coverage.missing();
    let is_covered = sum.seeds < COVERED_FROM || missing.is_empty();
    if !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
    }
    sum.failed == 0 && is_covered
}

/// Broken products, each of which must be noticed. True: all were.
pub(crate) fn canaries(arguments: Arguments) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let mut is_good = true;
    for &(canary, seeds) in CANARIES {
        let next = AtomicU64::new(0);
        let found = AtomicBool::new(false);
        let last = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..arguments.threads {
                scope.spawn(|| {
                    while !found.load(Ordering::Relaxed) {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= seeds {
                            return;
                        }
                        let outcome = run(arguments.from + nth, options(arguments, Some(canary)));
                        if let Some(violation) = outcome.violation {
                            found.store(true, Ordering::Relaxed);
                            last.lock().expect("nobody panics").get_or_insert((nth, violation));
                        }
                    }
                });
            }
        });
        match last.into_inner().expect("nobody panicked") {
            Some((nth, violation)) => {
                println!(
                    "canary {canary:?}: noticed at seed {} of {seeds}: {}",
                    nth + 1,
                    class_of(&violation)
                );
            }
            None => {
                println!("canary {canary:?}: NOT NOTICED in {seeds} seeds");
                is_good = false;
            }
        }
    }
    let seed = arguments.from;
    let (first, second) =
        (run(seed, options(arguments, None)), run(seed, options(arguments, None)));
    let other = run(seed, options(arguments, Some(Canary::OtherByte)));
    let is_told = first.hash == second.hash && first.hash != other.hash;
    println!("canary OtherByte: {}", if is_told { "noticed" } else { "NOT NOTICED" });
    is_good & is_told
}
