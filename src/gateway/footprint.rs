//! What a subscription and a channel cost the gateway's tables: the figures of `performance.md`, part 4, on one core.

use super::hub::Hub;
use super::interest::{Interest, Wish};
use super::lists::{ListRef, Lists};
use super::members::Member;
use super::names::Names;
use crate::ids::Handle;
use crate::ring::{Secret, slot_of};

/// All tables of one core, whose connections follow what `follow` says.
struct Core {
    names: Names,
    hub: Hub,
    interest: Interest,
    lists: Lists,
    followed: Vec<ListRef>,
}

impl Core {
    fn new(connections: usize) -> Self {
        Self {
            names: Names::new(1 << 26),
            hub: Hub::new(1 << 26),
            interest: Interest::new(1 << 26),
            lists: Lists::default(),
            followed: (0..connections).map(|_| ListRef::EMPTY).collect(),
        }
    }

    /// False: it did already.
    fn follow(&mut self, conn: u32, channel: u32) -> bool {
        let name = format!("C{channel:08}");
        let (key, slot) = (Secret([1; 16]).key_of(&name), slot_of(&name));
        let member = Member::new(conn, 0);
        let joined = self.hub.join(&mut self.names, key, slot, &name, member).expect("room");
        if joined.is_new {
            let wish = Wish { slot, key, namespace: 0, name: &name };
            self.interest.subscribe(&mut self.names, wish, 0, Handle(joined.place));
        }
        if joined.was_added {
            self.lists.push(&mut self.followed[conn as usize], joined.place);
        }
        joined.was_added
    }

    fn bytes(&self) -> usize {
        self.names.bytes() + self.hub.bytes() + self.interest.bytes() + self.lists.bytes()
    }
}

#[test]
fn a_subscription_costs_at_most_16_bytes() {
    // Every connection in the same number of channels, in random order.
    const CONNECTIONS: u32 = 10_000;
    let mut core = Core::new(CONNECTIONS as usize);
    let mut random = 1u64;
    for _ in 0..200 {
        for conn in 0..CONNECTIONS {
            loop {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if core.follow(conn, (((random >> 32) * 20_000) >> 32) as u32) {
                    break;
                }
            }
        }
    }
    let subscriptions = core.hub.subscriptions();
    assert_eq!(subscriptions, 2_000_000);
    let each = core.bytes() as f64 / subscriptions as f64;
    println!("{each:.2} bytes for each of {subscriptions} subscriptions");
    assert!(each <= 16.0, "{each:.2} bytes for each subscription");
}

#[test]
fn a_channel_with_one_subscriber_costs_at_most_144_bytes() {
    const CHANNELS: u32 = 1_000_000;
    let mut core = Core::new(100);
    for channel in 0..CHANNELS {
        assert!(core.follow(channel % 100, channel));
    }
    let each = core.bytes() as f64 / f64::from(CHANNELS);
    println!("{each:.2} bytes for each of {CHANNELS} channels");
    assert!(each <= 144.0, "{each:.2} bytes for each channel");
}

#[test]
fn a_node_with_a_handful_of_channels_is_small() {
    let mut core = Core::new(8);
    for channel in 0..16 {
        for conn in 0..8 {
            core.follow(conn, channel);
        }
    }
    assert!(core.bytes() <= 400 << 10, "{} bytes", core.bytes());
}
