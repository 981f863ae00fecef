//! Which nodes a world has, and what each does: one with all roles, as `dev` is, or a cell.

use std::time::Duration;

use campanile::charm::manager::ManagerConfig;
use campanile::ids::{NodeId, Role, Roles};
use campanile::limits::RING_IDS_MAX;
use campanile::ring::carries::Carries;
use campanile::ring::document::NodeEntry;
use campanile::ring::region::RegionRelay;

use crate::agenda::millis;
use crate::random::Random;

/// One node, whatever process runs as it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) roles: Roles,
    pub(crate) cores: usize,
    /// `None`: its number is the ring's to give.
    pub(crate) id: Option<NodeId>,
    /// Of a gateway.
    pub(crate) region: Option<&'static str>,
    /// Of a gateway in no ring: places in the list of those that it asks for channels, the best first.
    pub(crate) relays: Vec<usize>,
    /// The first that it asks is one that is not there, by the word of its operator.
    pub(crate) is_misled: bool,
    /// It speaks the oldest version that we speak, and no newer one.
    pub(crate) is_old: bool,
}

impl Part {
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles.contains(role)
    }
    /// It takes seats, and waits for them at its start.
    pub(crate) fn owns(&self) -> bool {
        self.is(Role::Channel) || self.is(Role::Presence)
    }
    /// As an operator brings it into the ring: no process of it was seen yet.
    pub(crate) fn entry(&self, id: u16) -> NodeEntry {
        let carries = Carries::of(self.roles).unwrap_or_default();
        NodeEntry { id, carries, ..NodeEntry::new(&self.name, &self.name, self.cores as u8) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) parts: Vec<Part>,
    /// Places in the list.
    pub(crate) webapp: usize,
    pub(crate) managers: Vec<usize>,
    pub(crate) is_cell: bool,
    /// In which at most one node is replaced.
    pub(crate) window: Duration,
    /// A manager that was told of no others.
    pub(crate) hermit: Option<usize>,
}

/// Among the numbers of nodes in no ring: nobody has it.
const NOBODY: u16 = 500;

pub(crate) const REGIONS: [&str; 2] = ["east", "west"];

/// How another ring gets to nodes, besides a look at the store at their start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    /// Managers tell everybody.
    pub(crate) is_pushed: bool,
    /// The store's watch never tells this node anything.
    pub(crate) deaf: Option<usize>,
}

const OWNER: &[Role] = &[Role::Channel, Role::Presence];
const DESK: &[Role] = &[Role::Webapp, Role::Admin];

fn with(roles: Roles, more: &[Role]) -> Roles {
    Roles(roles.0 | Roles::of(more).0)
}

impl Layout {
    /// `cores`: of the only node.
    pub(crate) fn draw(random: &mut Random, cores: usize) -> Self {
        if random.chance(450) {
            return Self::one(cores);
        }
        let health = Roles::of(&[Role::Health]);
        let mut parts = Vec::new();
        let mut add = |name: String, roles: Roles, cores: u64| {
            let cores = cores as usize;
            parts.push(Part {
                name,
                roles,
                cores,
                id: None,
                region: None,
                relays: vec![],
                is_misled: false,
                is_old: false,
            });
            parts.len() - 1
        };
        for nth in 0..*random.pick(&[1, 2, 2, 3, 3]) {
            let mut roles = with(health, OWNER);
            if random.chance(200) {
                roles = with(roles, &[Role::Gateway]);
            }
            add(format!("cs{nth}"), roles, random.between(1, 2));
        }
        let gateways: Vec<usize> = (0..*random.pick(&[1, 1, 2]))
            .map(|nth| {
                add(format!("gs{nth}"), with(health, &[Role::Gateway]), random.between(1, 2))
            })
            .collect();
        let webapp = add("web".into(), with(health, DESK), 0);
        let mut managers = Vec::new();
        match random.below(4) {
            0 => managers.push(webapp),
            1 => managers.push(add("rm0".into(), with(health, &[Role::Ring]), 0)),
            2 => managers.extend([
                webapp,
                gateways[0],
                add("rm0".into(), with(health, &[Role::Ring]), 0),
            ]),
            _ => managers
                .extend((0..3).map(|nth| add(format!("rm{nth}"), with(health, &[Role::Ring]), 0))),
        }
        for &manager in &managers {
            parts[manager].roles = with(parts[manager].roles, &[Role::Ring]);
        }
        for (at, part) in parts.iter_mut().enumerate() {
            if !part.owns() {
                part.id = Some(NodeId(RING_IDS_MAX + at as u16));
            }
        }
        let window = millis(*random.pick(&[1_500, 5_000, 60_000]));
        Self { parts, webapp, managers, is_cell: true, window, hermit: None }
    }

    /// By which ways nodes hear of another ring: all do both ways, or nothing is pushed, or one hears by pushes only.
    pub(crate) fn ways(&self, random: &mut Random) -> Ways {
        let both = Ways { is_pushed: true, deaf: None };
        match random.below(4) {
            _ if !self.is_cell => both,
            0 => Ways { is_pushed: false, ..both },
            1 => {
                let deaf = random.below(self.parts.len() as u64) as usize;
                // Somebody else has to tell it.
                let is_only = self.managers == [deaf];
                Ways { deaf: (!is_only).then_some(deaf), ..both }
            }
            _ => both,
        }
    }

    fn one(cores: usize) -> Self {
        let roles =
            Roles::of(&[Role::Gateway, Role::Channel, Role::Presence, Role::Admin, Role::Webapp]);
        let id = Some(NodeId(0));
        let part = Part {
            name: "one".into(),
            roles,
            cores,
            id,
            region: None,
            relays: vec![],
            is_misled: false,
            is_old: false,
        };
        Self {
            parts: vec![part],
            webapp: 0,
            managers: vec![],
            is_cell: false,
            window: ManagerConfig::WINDOW,
            hermit: None,
        }
    }

    /// The nodes of the first ring.
    pub(crate) fn entries(&self) -> Vec<NodeEntry> {
        let owners = self.parts.iter().filter(|part| part.owns());
        let first = u16::from(self.is_cell);
        owners.enumerate().map(|(nth, part)| part.entry(nth as u16 + first)).collect()
    }

    /// What a manager, or whoever would be one, goes by.
    pub(crate) fn manager(&self, at: usize, me: NodeId) -> ManagerConfig {
        let rank = self.managers.iter().position(|manager| *manager == at).unwrap_or(0) as u32;
        ManagerConfig {
            me,
            managers: if self.hermit == Some(at) { 1 } else { self.managers.len().max(1) },
            rank,
            window: self.window,
            ..ManagerConfig::alone(me)
        }
    }

    /// Whether it is for the first to dial the second, of nodes that are both in no ring.
    pub(crate) fn is_for(&self, us: usize, other: usize) -> bool {
        let is_manager = |at: usize| self.managers.contains(&at);
        let is_known = other == self.webapp || is_manager(other);
        let id = |at: usize| self.parts[at].id;
        us != other && is_known && !(is_manager(us) && (id(other) < id(us) || !is_manager(other)))
    }

    /// A cell in the middle of an upgrade: some of its nodes are of the version before.
    pub(crate) fn age(&mut self, random: &mut Random) {
        if self.is_cell && random.chance(200) {
            for part in &mut self.parts {
                part.is_old = random.chance(500);
            }
        }
    }

    /// Some nodes of the ring are channel servers or presence servers alone: there is one of each at least. Who is of an older version knows
    /// of no such nodes.
    pub(crate) fn split(&mut self, random: &mut Random) {
        let owners: Vec<usize> =
            (0..self.parts.len()).filter(|at| self.parts[*at].owns()).collect();
        let is_old = self.parts.iter().any(|part| part.is_old);
        if !self.is_cell || is_old || owners.len() < 2 || !random.chance(600) {
            return;
        }
        let ways = [Roles::SEATED, Roles::of(&[Role::Channel]), Roles::of(&[Role::Presence])];
        let drawn: Vec<Roles> = owners.iter().map(|_| *random.pick(&ways)).collect();
        if drawn.iter().fold(0, |all, roles| all | roles.0) == Roles::SEATED.0 {
            for (at, roles) in owners.into_iter().zip(drawn) {
                let others = self.parts[at].roles.without(Roles::SEATED);
                self.parts[at].roles = Roles(others.0 | roles.0);
            }
        }
    }

    /// Its gateways are in two regions, where there are several.
    pub(crate) fn part_regions(&mut self, random: &mut Random) {
        let gateways = self.gateways();
        if gateways.len() < 2 || !random.chance(700) {
            return;
        }
        let first = random.below(2) as usize;
        for (nth, at) in gateways.into_iter().enumerate() {
            self.parts[at].region = Some(REGIONS[(first + nth) % REGIONS.len()]);
        }
    }

    /// Some gateways ask others, that are in no ring either, for channels; one asks those that are before it.
    pub(crate) fn relay(&mut self, random: &mut Random) {
        if self.is_cell && random.chance(250) {
            let roles = Roles::of(&[Role::Health, Role::Gateway]);
            let id = Some(NodeId(RING_IDS_MAX + self.parts.len() as u16));
            let cores = random.between(1, 2) as usize;
            let (name, region, relays) = ("gs9".into(), None, vec![]);
            let (is_misled, is_old) = (false, false);
            self.parts.push(Part { name, roles, cores, id, region, relays, is_misled, is_old });
        }
        let gateways = self.gateways();
        let loose: Vec<usize> = gateways.into_iter().filter(|at| !self.parts[*at].owns()).collect();
        if !self.is_cell || loose.len() < 2 || !random.chance(600) {
            return;
        }
        let relays = &loose[..random.between(1, loose.len() as u64 - 1) as usize];
        for &at in &loose {
            let before = relays.iter().take_while(|relay| **relay != at);
            self.parts[at].relays = before.copied().collect();
        }
    }

    /// As gateways are told it.
    pub(crate) fn relays_of(&self, part: &Part) -> Vec<RegionRelay> {
        let told = |at: &usize| {
            let Part { id, cores, .. } = self.parts[*at];
            RegionRelay { node: id.expect("it is in no ring"), cores: cores as u8 }
        };
        let nobody = RegionRelay { node: NodeId(RING_IDS_MAX + NOBODY), cores: 2 };
        part.is_misled.then_some(nobody).into_iter().chain(part.relays.iter().map(told)).collect()
    }

    /// What operators write wrong: of whom to ask for channels, of who else is a manager.
    pub(crate) fn mislead(&mut self, random: &mut Random) {
        if self.managers.len() > 1 && random.chance(150) {
            self.hermit = Some(*random.pick(&self.managers));
        }
        for part in &mut self.parts {
            part.is_misled =
                self.is_cell && !part.owns() && part.is(Role::Gateway) && random.chance(100);
        }
    }

    pub(crate) fn has_regions(&self) -> bool {
        self.parts.iter().any(|part| part.region.is_some())
    }

    pub(crate) fn gateways(&self) -> Vec<usize> {
        let all = self.parts.iter().enumerate();
        all.filter(|(_, part)| part.is(Role::Gateway)).map(|(at, _)| at).collect()
    }
}
