//! Many worlds, one thread each at a time; what they found, in lines that replay it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

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

/// Runs one seed; a panic of the product is a violation too.
fn run(seed: u64, options: Options) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, options).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Outcome {
            violation: Some(Violation(format!("panic: {text}"))),
            hash: 0,
            happenings: 0,
            age: std::time::Duration::ZERO,
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

/// Many seeds. True: all are good, and everything was seen.
pub(crate) fn many(arguments: Arguments) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let next = AtomicU64::new(arguments.from);
    let sum = Mutex::new((Coverage::new(), Vec::new(), 0u64, 0.0f64, 0u64));
    let options = options(arguments, None);
    let has_failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.from + arguments.seeds
                        || has_failed.load(Ordering::Relaxed)
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
                    let mut sum = sum.lock().expect("nobody panics with it");
                    sum.0.merge(&outcome.coverage);
                    sum.2 += outcome.happenings;
                    sum.3 += outcome.age.as_secs_f64();
                    // In whatever order they come.
                    sum.4 = sum.4.wrapping_add(outcome.hash.wrapping_mul(seed * 2 + 1));
                    if let Some(violation) = outcome.violation {
                        has_failed.store(arguments.first, Ordering::Relaxed);
                        sum.1.push((seed, violation));
                    }
                }
            });
        }
    });
    let (coverage, mut violations, happenings, age, digest) =
        sum.into_inner().expect("nobody panicked with it");
    let took = began.elapsed().as_secs_f64();
    violations.sort_by_key(|(seed, _)| *seed);
    println!(
        "{} seeds in {took:.1} s ({:.0} a second): {happenings} happenings, {:.1} hours of virtual time, digest {digest:016x}, {} failed",
        arguments.seeds,
        arguments.seeds as f64 / took,
        age / 3_600.0,
        violations.len()
    );
    if arguments.table {
        println!("{}", coverage.table());
    }
    for (seed, Violation(what)) in violations.iter().take(TOLD_MAX) {
        let cut: String = what.chars().take(400).collect();
        println!("seed {seed}: {cut}\n  cargo sim -- --seed {seed}");
    }
    if arguments.first {
        return violations.is_empty();
    }
    if let Some((seed, _)) = violations.first() {
        shrink(*seed, options);
    }
    let missing = coverage.missing();
    let is_covered = arguments.seeds < COVERED_FROM || missing.is_empty();
    if !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
    }
    violations.is_empty() && is_covered
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
