//! What else goes wrong in some worlds, of a draw of its own: rarer faults, those that last long, and several that belong together.

use std::time::Duration;

use crate::agenda::millis;
use crate::faults::{Fault, Planned};
use crate::layout::{Layout, REGIONS};
use crate::random::Random;

/// What is added to the plan of a world.
#[derive(Debug)]
pub(crate) struct Odds {
    /// How much longer the world is active.
    pub(crate) longer: Duration,
    pub(crate) plan: Vec<Planned>,
    /// What is played with several faults.
    pub(crate) scenes: Vec<&'static str>,
}

/// In a thousand worlds.
const ODD: u64 = 350;
const LONG: u64 = 12;

impl Odds {
    /// For a world that is active for so long.
    pub(crate) fn draw(random: &mut Random, layout: &Layout, active: Duration) -> Self {
        let mut odds = Self { longer: Duration::ZERO, plan: Vec::new(), scenes: Vec::new() };
        if random.chance(ODD) {
            for _ in 0..random.between(1, 3) {
                odds.add(random, layout, active);
            }
        }
        if layout.is_cell && random.chance(LONG) {
            odds.last_long(random, active);
        }
        odds
    }

    fn add(&mut self, random: &mut Random, layout: &Layout, active: Duration) {
        let at = millis(random.below(active.as_millis() as u64));
        let lasts = millis(random.between(50, 3_000));
        let node = random.next();
        let mut one = |fault| self.plan.push(Planned { at, lasts, fault });
        match random.below(if layout.is_cell { 12 } else { 4 }) {
            0 => one(Fault::Slow { node, place: random.below(8) }),
            1 if node.is_multiple_of(2) => one(Fault::DatabaseReadOnly),
            1 => one(Fault::DatabaseFollowed { per_mille: 100 + node % 901 }),
            2 => one(Fault::ClockMoved { node, by_ms: random.between(0, 20_000) as i64 - 10_000 }),
            3 => one(Fault::ClockStopped { node }),
            4 => one(Fault::StoreAwayFrom { node }),
            5 | 6 => one(Fault::StoreRestored { back: random.between(1, 4) }),
            7 => one(Fault::SlowLines { node, ms: *random.pick(&[600, 1_500, 5_000]) }),
            8 => self.restart_all(random, layout, at),
            9 => self.lose_managers(random, layout, at, lasts),
            10 => self.clog(random, layout, at),
            _ => self.cut_off_region(random, layout, at, lasts),
        }
    }

    /// One node after the other drains and comes back, as at an upgrade.
    fn restart_all(&mut self, random: &mut Random, layout: &Layout, mut at: Duration) {
        for node in 0..layout.parts.len() as u64 {
            let lasts = millis(random.between(50, 400));
            self.plan.push(Planned { at, lasts, fault: Fault::Drain { node } });
            at += lasts + millis(random.between(300, 2_500));
        }
        self.scenes.push("scenes: a rolling restart");
    }

    fn lose_managers(
        &mut self,
        random: &mut Random,
        layout: &Layout,
        at: Duration,
        lasts: Duration,
    ) {
        let is_told = random.chance(500);
        let lost = layout.managers.iter().map(|manager| {
            let fault = Fault::Crash { node: *manager as u64, is_told };
            Planned { at, lasts, fault }
        });
        self.plan.extend(lost);
        self.scenes.push("scenes: all managers crash");
    }

    /// Nodes fall silent one after the other, and are heard again in another order.
    fn clog(&mut self, random: &mut Random, layout: &Layout, mut at: Duration) {
        let count = layout.parts.len() as u64;
        let last = at + millis(200 * count);
        for node in (0..count).filter(|_| random.chance(500)).collect::<Vec<_>>() {
            let lasts = last.saturating_sub(at) + millis(random.below(2_000));
            self.plan.push(Planned { at, lasts, fault: Fault::Partition { nodes: 1 << node } });
            at += millis(random.below(200));
        }
        self.scenes.push("scenes: nodes clogged one by one");
    }

    fn cut_off_region(
        &mut self,
        random: &mut Random,
        layout: &Layout,
        at: Duration,
        lasts: Duration,
    ) {
        let region = Some(*random.pick(&REGIONS));
        let there = layout.parts.iter().enumerate().filter(|(_, part)| part.region == region);
        let nodes = there.fold(0, |nodes, (at, _)| nodes | 1 << at);
        if nodes != 0 {
            self.plan.push(Planned { at, lasts, fault: Fault::Partition { nodes } });
            self.scenes.push("scenes: a region cut off");
        }
    }

    /// One fault that is longer than everybody's patience.
    fn last_long(&mut self, random: &mut Random, active: Duration) {
        let (at, lasts) = (active / 2, millis(random.between(10_000, 40_000)));
        let node = random.next();
        let fault = match random.below(4) {
            0 => Fault::Pause { node },
            1 => Fault::StoreAway,
            2 => Fault::DatabaseAway,
            _ => Fault::Partition { nodes: node },
        };
        self.plan.push(Planned { at, lasts, fault });
        self.longer = lasts;
        self.scenes.push("scenes: something lasts long");
    }
}
