//! Stories of two cores that have something for each other.

use super::*;
use crate::ids::Handle;
use crate::shard::Report;
use crate::time::Wall;

const NOW: Now = Now { mono: Mono(1_000), wall: Wall(1_000) };

const OTHER: u8 = 1;

/// Has things for the other core, and says one whenever that takes bulk.
#[derive(Debug, Default)]
struct Talker {
    left: u32,
}

impl Shard for Talker {
    fn handle(&mut self, _now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::PeerUp { peer, .. } | Input::PeerRoom { peer }
                if peer.core == OTHER && self.left > 0 =>
            {
                self.left -= 1;
                out.send_bulk(peer, &Message::Unsuback { handle: Handle(self.left) });
            }
            _ => {}
        }
    }
    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }
    fn deadline(&self) -> Option<Mono> {
        None
    }
    fn report(&self, _into: &mut Report) {}
}

impl Shards for Talker {
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard> {
        (role == Role::Channel).then_some(self as &mut dyn Shard)
    }
}

/// Nothing is to be done outside.
struct Idle;

impl Hands for Idle {
    fn carry_out(&mut self, role: Role, effect: Effect, _effects: &Effects) {
        unreachable!("{role:?} wants nothing: {effect:?}");
    }
    fn tell_http(&mut self, _message: &[u8]) {
        unreachable!("nobody asked");
    }
}

/// A core's turns until it would sleep: what it gave to the other one.
fn turns(place: &mut Place<Talker>) -> Vec<Batch> {
    let mut batches = Vec::new();
    loop {
        let mut more = place.advance(NOW, &mut Idle);
        more |= place.carry(
            NOW,
            &mut Idle,
            |other| other < 2,
            |_, batch| {
                batches.push(batch);
            },
        );
        if !more {
            return batches;
        }
    }
}

#[test]
fn a_core_does_not_sleep_over_what_was_said_when_room_was_told() {
    let (node, life) = (NodeId(0), 1);
    let whole = Whole { node, life, roles: Roles::of(&[Role::Channel]), cores: 2 };
    let ring = Ring::new(&[(node, 2)]);
    let mut cores = [0, 1].map(|core| {
        let talker = Talker { left: [10, 0][core] };
        let mut place = Place::new(talker, core, whole, &Limits::DEFAULT);
        place.begin(NOW, &ring, &mut Idle);
        place
    });
    for at in [0, 1].into_iter().cycle().take(10) {
        let batches = turns(&mut cores[at]);
        if cores[0].shards.left < 10 {
            break;
        }
        for batch in batches {
            cores[1 - at].receive(NOW, at, &batch, &mut Idle);
        }
    }
    assert_eq!(cores[0].shards.left, 0, "there is room for all of them, and nothing else happens");
}

#[test]
fn what_is_meant_for_a_role_that_a_node_has_not_is_not_sent_and_breaks_no_link() {
    let node = |id: u16, role: Role| {
        let (node, roles) = (NodeId(id), Roles::of(&[role]));
        let whole = Whole { node, life: 1, roles, cores: 1 };
        let (cell, core, cores, ring_epoch) = ("c".to_string(), 0, 1, 1);
        let identity = Identity { cell, node, incarnation: 1, roles, core, cores, ring_epoch };
        let mut place = Place::new(Talker::default(), 0, whole, &Limits::DEFAULT);
        place.begin(NOW, &Ring::new(&[(NodeId(0), 1)]), &mut Idle);
        (place, identity)
    };
    let ((mut owner, we), (mut keeper, they)) = (node(0, Role::Channel), node(1, Role::Presence));
    let there = owner.meet(NOW, (&they, VERSION), &mut Idle);
    let here = keeper.meet(NOW, (&we, VERSION), &mut Idle);
    let exchange = |from: &mut Place<Talker>, to: &mut Place<Talker>, (way, back): (_, usize)| {
        let mut batches = Vec::new();
        let _ = from.carry(NOW, &mut Idle, |other| other == way, |_, batch| batches.push(batch));
        for batch in &batches {
            to.receive(NOW, back, batch, &mut Idle);
        }
        batches.len()
    };
    for _ in 0..4 {
        exchange(&mut owner, &mut keeper, (there, here));
        exchange(&mut keeper, &mut owner, (here, there));
    }
    let mut message = Vec::new();
    Message::Unsuback { handle: Handle(1) }.encode(&mut message);
    for (role, is_sent) in [(Role::Channel, false), (Role::Presence, true)] {
        let to = Peer::new(NodeId(1), role, 0);
        assert!(owner.reaches(to));
        owner.send(Role::Channel, to, &message, Class::Bulk, &mut Idle);
        let sent = exchange(&mut owner, &mut keeper, (there, here));
        assert_eq!(sent > 0, is_sent, "{role:?}");
    }
    assert!(keeper.reaches(Peer::new(NodeId(0), Role::Channel, 0)), "the link is up");
}
