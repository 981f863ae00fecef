//! Seeds that found something once: each is run again in every run.

use crate::fleet;

/// `SEED what it found`, a line each; lines with `#` are words.
const SEEDS: &str = include_str!("bugbase/seeds.txt");

/// True: all of them are good.
pub(crate) fn replay() -> bool {
    let lines =
        SEEDS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut is_good = true;
    let mut count = 0;
    for line in lines {
        let mut words = line.split_whitespace();
        let seed =
            words.next().and_then(|word| word.parse().ok()).expect("a line begins with its seed");
        if let Some(what) = fleet::replay(seed) {
            println!("seed {seed} of the bug base fails again: {what}\n  {line}");
            is_good = false;
        }
        count += 1;
    }
    println!("bug base: {count} seeds");
    is_good
}
