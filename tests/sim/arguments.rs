//! What the command line says.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// One seed, told in full.
    One {
        seed: u64,
    },
    /// Seeds, and then the canaries.
    Many,
    Canaries,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arguments {
    pub(crate) what: What,
    pub(crate) from: u64,
    pub(crate) seeds: u64,
    /// No seed is begun after so long.
    pub(crate) minutes: Option<u64>,
    /// Happenings of one world at most.
    pub(crate) turns: u64,
    pub(crate) threads: usize,
    /// Of one seed: do not tell, look for a smaller plan of faults that fails too.
    pub(crate) shrink: bool,
    /// Bits of the faults in the plan that are left out.
    pub(crate) without: u64,
    /// Print what happened over all seeds.
    pub(crate) table: bool,
    /// Stop at the first seed that fails, and look for nothing else.
    pub(crate) first: bool,
}

const USAGE: &str =
    "cargo sim -- [--seeds N] [--minutes N] [--from N] [--turns N] [--threads N] [--table] [--first]
cargo sim -- --seed N [--turns N] [--without BITS] [--shrink]
cargo sim -- --canary

--seeds N    run so many seeds (20000), some of them twice, the bug base, and the canaries
--minutes N  begin no seed after so long; without --seeds, there is no other end
--from N     the first seed (1)
--seed N     run one seed and tell everything that happens
--shrink     leave out faults of its plan as long as it still fails
--without B  leave out the faults whose bits are set
--turns N    happenings of one world at most (3000000)
--first      stop at the first seed that fails; no canaries, nothing need have been seen
--table      print what happened over all seeds
--canary     only the canaries";

/// Of a run that does not say how many.
const SEEDS: u64 = 20_000;

impl Arguments {
    /// # Errors
    /// What may be said.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut arguments = Self {
            what: What::Many,
            from: 1,
            seeds: SEEDS,
            minutes: None,
            turns: 3_000_000,
            threads,
            shrink: false,
            without: 0,
            table: false,
            first: false,
        };
        let mut seeds = None;
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or(USAGE)?;
                value.parse().map_err(|_| format!("{word} {value}: not a number\n{USAGE}"))
            };
            match word.as_str() {
                "--seed" => arguments.what = What::One { seed: number()? },
                "--seeds" => seeds = Some(number()?.max(1)),
                "--minutes" => arguments.minutes = Some(number()?),
                "--from" => arguments.from = number()?,
                "--turns" => arguments.turns = number()?,
                "--threads" => arguments.threads = (number()? as usize).max(1),
                "--without" => arguments.without = number()?,
                "--canary" => arguments.what = What::Canaries,
                "--shrink" => arguments.shrink = true,
                "--table" => arguments.table = true,
                "--first" => arguments.first = true,
                _ => return Err(USAGE.into()),
            }
        }
        let endless = u64::MAX - arguments.from;
        let usual = if arguments.minutes.is_some() { endless } else { SEEDS };
        arguments.seeds = seeds.unwrap_or(usual).min(endless);
        Ok(arguments)
    }
}
