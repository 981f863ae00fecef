//! Whom a node dials: nodes of the ring, and those that are in none and are named on its command line.

use super::far::Dialers;
use crate::cli::Node;
use crate::ids::{NodeId, Role};
use crate::ring::document::Document;

/// Nodes that are in no ring, and which of our places dial them. Of two managers the one with the lower number dials; everybody else dials
/// managers. The cores of one that is a gateway as well are not reached by that: they dial for themselves whoever has something for clients.
pub(super) fn known(config: &Node, us: NodeId) -> Vec<Known> {
    let Node { webapp, managers, admins, roles, .. } = config;
    let is_manager = |node: NodeId| managers.iter().any(|(manager, _)| *manager == node);
    let is_ours = |node: NodeId| !is_manager(us) || (is_manager(node) && us < node);
    let has_clients = roles.contains(Role::Gateway);
    let desks = webapp.iter().chain(admins).map(|known| (known, has_clients));
    let all = desks.chain(managers.iter().map(|known| (known, false)));
    let mut list: Vec<Known> = Vec::new();
    for ((node, address), is_for_clients) in all {
        let dialers = match (is_ours(*node), is_for_clients) {
            (true, _) => Dialers::All,
            (false, true) => Dialers::Cores,
            (false, false) => continue,
        };
        if *node != us && list.iter().all(|known| known.node != *node) {
            list.push(Known { node: *node, address: address.clone(), cores: 0, dialers });
        }
    }
    // Of those that stand for owners, who comes later asks who comes earlier.
    let relays = config.relays.iter().take_while(|relay| relay.gateway.node != us);
    list.extend(relays.map(|relay| Known {
        node: relay.gateway.node,
        address: relay.address.clone(),
        cores: relay.gateway.cores,
        dialers: Dialers::Between,
    }));
    list
}

/// A node that is in no ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    node: NodeId,
    address: String,
    /// That have something for ours.
    cores: u8,
    dialers: Dialers,
}

/// Whom we dial, with how many cores. Of two nodes of the ring the one with the lower number dials; others dial them all.
///
/// The webapp and the managers (`known`) dial the nodes of the ring; others dial them, also who was in the ring until now and may have clients,
/// and of these only the control planes have something for them.
pub(super) fn to_dial(
    us: NodeId,
    ring: &Document,
    known: &[Known],
) -> Vec<(u16, String, u8, Dialers)> {
    let is_in = ring.node(us).is_some();
    let is_ours = |id: u16| id != us.0 && (!is_in || us.0 < id);
    let nodes = ring.nodes.iter().filter(|node| is_ours(node.id));
    let nodes = nodes.map(|node| (node.id, node.address.clone(), node.cores, Dialers::All));
    let known = known.iter().filter(|known| !is_in && ring.node(known.node).is_none());
    let known =
        known.map(|known| (known.node.0, known.address.clone(), known.cores, known.dialers));
    nodes.chain(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::change::Cell;
    use crate::ring::document::NodeEntry;

    #[test]
    fn who_left_the_ring_reaches_the_webapp_itself_from_then_on() {
        let node = |id: u16| NodeEntry {
            id,
            incarnation: 1,
            ..NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), 2)
        };
        let before = Cell::new("one", vec![node(1), node(2), node(3)]).expect("a ring");
        let (node, address) = (NodeId(10_000), "10.0.1.1:7400".to_string());
        let known = [Known { node, address, cores: 0, dialers: Dialers::All }];
        let dialed = |us: u16, cell: &Cell| -> Vec<u16> {
            to_dial(NodeId(us), &cell.document, &known).iter().map(|(id, ..)| *id).collect()
        };
        assert_eq!(dialed(2, &before), [3], "the webapp dials the nodes of the ring");
        assert_eq!(dialed(10_001, &before), [1, 2, 3, 10_000]);
        let mut after = before;
        after.document.nodes.retain(|node| node.id != 2);
        assert_eq!(dialed(2, &after), [1, 3, 10_000]);
    }
}
