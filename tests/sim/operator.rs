//! Who changes a ring by hand, and who may have given seats away: I10.

use std::rc::Rc;

use campanile::ids::{Ask, NodeId, Role, Seat, Slot};
use campanile::ring::assign::Kind;
use campanile::ring::change::Cell;
use campanile::ring::drain::Pace;
use campanile::ring::slot_of;
use campanile::wire::Message;
use campanile::wire::message::outcome;

use crate::agenda::{Arrival, Happening, Writer, millis};
use crate::answers::encoded;
use crate::checker::Violation;
use crate::layout::REGIONS;
use crate::store::{Kept, Swapped};
use crate::world::World;

impl World {
    // ---- managers

    /// A manager wants a node replaced: reads the ring, and writes it anew.
    pub(crate) fn replace(&mut self, process: u32, ask: Ask, question: &Message<'_>) {
        let Message::Replace { ring_epoch, node, incarnation, live, .. } = *question else {
            return;
        };
        let live: Vec<u16> = live.iter().collect();
        let by = Writer::Manager { process, ask, dead: incarnation };
        let mut is_placed = true;
        let clock = self.node_of(process).map(|at| self.nodes[at].clock.now(self.agenda.now));
        let wall = clock.unwrap_or_default().wall;
        self.write_for(process, ask, (by, ring_epoch), |cell| {
            match cell.replace_process((NodeId(node), incarnation), &live) {
                None => Err(outcome::LATE),
                Some(Ok(next)) => Ok(next.stamped(NodeId(node), wall.seconds())),
                Some(Err(_)) => {
                    is_placed = false;
                    Err(outcome::NOBODY)
                }
            }
        });
        if !is_placed {
            self.outside.coverage.saw("dead nodes whose seats nobody may take");
        }
    }

    /// A manager wants the next step of the plan written.
    pub(crate) fn even_out(&mut self, process: u32, ask: Ask, ring_epoch: u64) {
        let by = Writer::Leveller { process, ask };
        let is_written = self.write_for(process, ask, (by, ring_epoch), |cell| {
            cell.step().map(|(next, _)| next).ok_or(outcome::EVEN)
        });
        if is_written {
            self.outside.coverage.saw("slots evened out by a manager");
        }
    }

    /// As the runtime's driver does it. False: nothing is written, and the manager is told why.
    fn write_for(
        &mut self,
        process: u32,
        ask: Ask,
        (by, ring_epoch): (Writer, u64),
        change: impl FnOnce(&Cell) -> Result<Cell, u8>,
    ) -> bool {
        let at = self.node_of(process);
        let next = match at.and_then(|at| self.store.read(at)) {
            None => Err(outcome::FAILED),
            Some(kept) if kept.epoch() != ring_epoch => Err(outcome::LATE),
            Some(kept) => change(&kept.cell),
        };
        match next {
            Ok(next) => {
                let pause = self.store.pause();
                let (was, next) = (ring_epoch, Rc::new(next));
                self.agenda.after(pause, Happening::Write { by, was, next });
                true
            }
            Err(why) => {
                self.tell_manager(process, ask, why);
                false
            }
        }
    }

    pub(crate) fn replaced(&mut self, process: u32, ask: Ask, swapped: Swapped) {
        let what = match swapped {
            Swapped::Done => outcome::DONE,
            Swapped::Late => outcome::LATE,
            Swapped::Unreachable | Swapped::Unknown => outcome::FAILED,
        };
        self.tell_manager(process, ask, what);
    }

    fn tell_manager(&mut self, process: u32, ask: Ask, what: u8) {
        let Some(at) = self.node_of(process) else { return };
        let (role, list) = (Role::Ring, vec![encoded(&Message::Replaced { ask, what })]);
        let place = self.nodes[at].control();
        let pause = self.store.pause();
        let what = Arrival::Answer { role, ask, list };
        self.agenda.after(pause, Happening::Arrive { process, place, what });
    }

    /// I10: a manager gave a node's seats away.
    pub(crate) fn judge_replacement(
        &mut self,
        manager: u32,
        dead: u64,
        before: &Rc<Kept>,
    ) -> Result<(), Violation> {
        self.outside.coverage.saw("nodes replaced");
        let now = self.agenda.now;
        let after = Rc::clone(self.store.newest());
        if (&after.cell.channels, &after.cell.users) != (&before.cell.channels, &before.cell.users)
        {
            return Err(Violation("I8: a replacement moves slots".into()));
        }
        if before.cell.document.frozen {
            return Err(Violation("I10: somebody is replaced while the ring is frozen".into()));
        }
        self.store.replaced(u128::from(dead));
        if let Some(at) = self.nodes.iter().position(|node| node.process != 0 && node.life == dead)
        {
            let is_impaired = now.since(self.impaired[at]) < TROUBLE;
            if !is_impaired && self.nodes[at].paused_until < now {
                let name = &self.nodes[at].part.name;
                return Err(Violation(format!(
                    "I10: {name} is replaced, and nothing is wrong with it"
                )));
            }
        }
        // A manager knows of what happened since it runs; of what was before by clocks, which may be wrong.
        let began = self.began[manager as usize - 1];
        // By its own clock, which may be too fast by one in a hundred.
        let window = self.layout.window * 98 / 100;
        let nodes = before.cell.document.nodes.len();
        let allowed = (nodes / 10).max(1);
        let recent = self.replacements.iter().filter(|at| now.since(**at) < window && **at > began);
        if recent.count() >= allowed {
            return Err(Violation(format!(
                "I10: more than {allowed} of {nodes} are replaced in {window:?}"
            )));
        }
        self.replacements.push(now);
        Ok(())
    }

    // ---- the operator

    /// Looks at the ring now and then: brings back who waits, and moves slots under load.
    pub(crate) fn operate(&mut self) {
        let pause = millis(self.operations.between(200, 3_000));
        self.agenda.after(pause, Happening::Operate);
        let Some(kept) = self.store.show() else { return };
        if self.store.went_back() {
            return self.restore_ring();
        }
        let cell = &kept.cell;
        let next = self
            .missing(cell)
            .or_else(|| if self.is_quiet() { Self::restored(cell) } else { self.wish(cell) });
        if let Some(next) = next {
            let pause = self.store.pause();
            let (was, next) = (kept.epoch(), Rc::new(next));
            self.agenda.after(pause, Happening::Write { by: Writer::Operator, was, next });
        }
    }

    /// The store went back: once that is noticed, it is given the newest ring that is on the disk of any node.
    fn restore_ring(&mut self) {
        if !std::mem::take(&mut self.is_alarmed) {
            return;
        }
        let known: Vec<Cell> =
            self.nodes.iter().filter_map(|node| node.view.cell().cloned()).collect();
        match self.store.give_back(&known) {
            Ok(()) => self.spread_news(),
            Err(Violation(why)) => self.outside.checker.broken(why),
        }
        self.outside.coverage.saw("operator: the ring restored");
    }

    /// A node that stands by: it is given its share.
    fn missing(&mut self, cell: &Cell) -> Option<Cell> {
        let document = &cell.document;
        let is_idle = |node: &&crate::node::Node| {
            node.is_up()
                && node.part.owns()
                && document.named(&node.part.name).is_some_and(|known| {
                    !known.replaced && document.seats_of(known.id).next().is_none()
                })
        };
        let part = self.nodes.iter().find(is_idle)?.part.clone();
        self.outside.coverage.saw("operator: a node added");
        cell.add(part.entry(0)).ok()
    }

    fn wish(&mut self, cell: &Cell) -> Option<Cell> {
        let held: Vec<u16> = (0..cell.document.seats.len() as u16)
            .filter(|seat| cell.document.seats[usize::from(*seat)].node.is_some())
            .collect();
        let seat = Seat(*self.operations.pick(&held));
        if cell.document.frozen && self.operations.chance(300) {
            return cell.freeze(false).ok();
        }
        match self.operations.below(10) {
            0..=3 => {
                self.outside.coverage.saw("operator: a slot moved");
                let (kind, slot) = self.a_slot();
                cell.move_slot(kind, slot, seat).ok()
            }
            4 | 5 => {
                // There and back, before everybody has heard of it.
                self.outside.coverage.saw("operator: a slot moved there and back");
                let (kind, slot) = self.a_slot();
                let there = cell.move_slot(kind, slot, seat).ok()?;
                let home = cell.table(kind).seats[usize::from(slot.0)];
                let back = there.move_slot(kind, slot, home).ok()?;
                let was = there.document.ring_epoch;
                let pause = millis(self.operations.between(10, 1_200));
                self.agenda.after(
                    pause,
                    Happening::Write { by: Writer::Operator, was, next: Rc::new(back) },
                );
                Some(there)
            }
            6 => {
                self.outside.coverage.saw("operator: a step of a plan");
                cell.step().map(|(next, _)| next)
            }
            7 => {
                self.outside.coverage.saw("operator: another weight");
                let names: Vec<&String> =
                    cell.document.nodes.iter().map(|node| &node.name).collect();
                let name = (*self.operations.pick(&names)).clone();
                let weight = *self.operations.pick(&[0, 50, 100, 300]);
                cell.weigh(&name, weight).ok()
            }
            8 if !cell.document.frozen && self.operations.chance(400) => {
                self.outside.coverage.saw("operator: the ring frozen");
                cell.freeze(true).ok()
            }
            _ if self.layout.has_regions() => self.a_region(cell),
            _ => None,
        }
    }

    /// A region is left, at another pace than until now, or is come to again.
    fn a_region(&mut self, cell: &Cell) -> Option<Cell> {
        let region = *self.operations.pick(&REGIONS);
        if cell.document.drains.iter().any(|drain| drain.region == region)
            && self.operations.chance(600)
        {
            self.outside.coverage.saw("operator: a region restored");
            return cell.restore_region(region).ok();
        }
        self.outside.coverage.saw("operator: a region drained");
        let pace = match self.operations.below(3) {
            0 => Pace::Usual,
            1 => Pace::PerSecond(self.operations.between(1, 50) as u32),
            _ => Pace::Seconds(self.operations.between(1, 5) as u32),
        };
        cell.drain_region(region, pace).ok()
    }

    /// In the end all regions are there for clients: where all drain, nobody comes to rest. And whoever dies is replaced.
    fn restored(cell: &Cell) -> Option<Cell> {
        if cell.document.frozen {
            return cell.freeze(false).ok();
        }
        let region = &cell.document.drains.first()?.region;
        cell.restore_region(region).ok()
    }

    /// A slot in which there is something.
    fn a_slot(&mut self) -> (Kind, Slot) {
        if self.operations.chance(200) {
            let users = &self.outside.database.users;
            return (Kind::Users, slot_of(self.operations.pick::<String>(users)));
        }
        let conversations = self.outside.database.members.keys().cloned();
        if self.operations.chance(600) {
            let names: Vec<String> = conversations.collect();
            return (Kind::Channels, slot_of(self.operations.pick::<String>(&names)));
        }
        let mut names: Vec<String> = self.outside.database.channels.keys().cloned().collect();
        names.extend(crate::guest::CHANNELS.iter().map(|name| format!(".{name}")));
        (Kind::Channels, slot_of(self.operations.pick::<String>(&names)))
    }
}

/// After a trouble so long ago a node is well.
const TROUBLE: std::time::Duration = std::time::Duration::from_secs(6);
