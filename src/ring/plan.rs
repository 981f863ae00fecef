//! Who gives slots to whom: the fewest moves after which every seat has its share, also of each core of its node.
//!
//! Pure and deterministic: the same tables give the same moves at every ring manager (`reliability.md` 1.6). A seat's share is its weight's
//! part of all slots, rounded down or up; of two plans that are as short, the one is taken that leaves the cores of a node even.

use crate::ids::{Seat, Slot};

/// What a seat should hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Against the other seats' weights. 0: it is to be emptied.
    pub weight: u64,
    /// Data cores of its node: the core of a slot is `slot % cores`.
    pub cores: u8,
}

/// One slot that changes its seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    pub slot: Slot,
    pub from: Seat,
    pub to: Seat,
}

/// The fewest moves after which each seat has its share: `floor` or `ceil` of its weight's part of all slots.
///
/// `assign` names, by slot, a seat of `shares`. Nothing moves where nobody has any weight. Of a longer plan, the first `moves_max`: after
/// those, the rest is what the next plan says.
pub fn rebalance(assign: &[Seat], shares: &[Share], moves_max: usize) -> Vec<Move> {
    let mut tally = Tally::new(assign, shares);
    let Some(wanted) = targets(assign.len(), &tally.held, shares) else { return Vec::new() };
    let mut moves = Vec::new();
    let mut takers: Vec<usize> = (0..shares.len()).collect();
    let mut givers = takers.clone();
    takers.retain(|&seat| tally.held[seat] < wanted[seat]);
    givers.retain(|&seat| tally.held[seat] > wanted[seat]);
    // Whoever lacks most takes next, so that several takers fill alike.
    while moves.len() < moves_max
        && let Some(&to) =
            takers.iter().max_by_key(|&&seat| (wanted[seat] - tally.held[seat], seat))
    {
        let (from, class) = tally.best(&givers, to);
        let slot = tally.slots[from][class].pop().expect("the best class has slots");
        tally.held[from] -= 1;
        tally.held[to] += 1;
        let class_there = usize::from(slot.0) % tally.classes(to);
        tally.counts[to][class_there] += 1;
        tally.counts[from][class] -= 1;
        moves.push(Move { slot, from: Seat(from as u16), to: Seat(to as u16) });
        givers.retain(|&seat| tally.held[seat] > wanted[seat]);
        takers.retain(|&seat| tally.held[seat] < wanted[seat]);
    }
    moves
}

/// How many slots each seat is to hold. `None`: nobody has any weight.
fn targets(slots: usize, held: &[usize], shares: &[Share]) -> Option<Vec<usize>> {
    let all: u128 = shares.iter().map(|share| u128::from(share.weight)).sum();
    if all == 0 {
        return None;
    }
    let part = |share: &Share| u128::from(share.weight) * slots as u128;
    let mut wanted: Vec<usize> = shares.iter().map(|share| (part(share) / all) as usize).collect();
    let left = slots - wanted.iter().sum::<usize>();
    // What rounding left over stays with those who have it already: each such slot is one that does not move.
    let mut rounded: Vec<usize> =
        (0..shares.len()).filter(|&seat| !part(&shares[seat]).is_multiple_of(all)).collect();
    rounded.sort_by_key(|&seat| (held[seat] <= wanted[seat], seat));
    for &seat in rounded.iter().take(left) {
        wanted[seat] += 1;
    }
    Some(wanted)
}

/// Slots by seat and class: a class is a core of the seat's node.
struct Tally {
    held: Vec<usize>,
    /// By seat and class.
    counts: Vec<Vec<usize>>,
    slots: Vec<Vec<Vec<Slot>>>,
}

impl Tally {
    fn new(assign: &[Seat], shares: &[Share]) -> Self {
        let classes = |share: &Share| usize::from(share.cores.max(1));
        let mut tally = Self {
            held: vec![0; shares.len()],
            counts: shares.iter().map(|share| vec![0; classes(share)]).collect(),
            slots: shares.iter().map(|share| vec![Vec::new(); classes(share)]).collect(),
        };
        for (slot, seat) in assign.iter().enumerate() {
            let seat = usize::from(seat.0);
            let class = slot % tally.classes(seat);
            tally.held[seat] += 1;
            tally.counts[seat][class] += 1;
            tally.slots[seat][class].push(Slot(slot as u16));
        }
        tally
    }

    fn classes(&self, seat: usize) -> usize {
        self.counts[seat].len()
    }

    /// From whom, and of which of its cores, a slot goes to `to`: where it leaves both most even.
    fn best(&self, givers: &[usize], to: usize) -> (usize, usize) {
        let mut best: Option<(i64, usize, usize)> = None;
        for &from in givers {
            for class in 0..self.classes(from) {
                if self.counts[from][class] == 0 {
                    continue;
                }
                let gain = self.excess(from, class) - self.need(from, class, to);
                if best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, from, class));
                }
            }
        }
        let (_, from, class) = best.expect("who is below its share has somebody above it");
        (from, class)
    }

    /// How far a core is above the mean of its seat, in slots times cores.
    fn excess(&self, seat: usize, class: usize) -> i64 {
        (self.counts[seat][class] * self.classes(seat)) as i64 - self.held[seat] as i64
    }

    /// The same at the taker; nothing where its cores are not the giver's.
    fn need(&self, from: usize, class: usize, to: usize) -> i64 {
        if self.classes(from) == self.classes(to) { self.excess(to, class) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = 65_536;

    fn applied(assign: &[Seat], moves: &[Move]) -> Vec<Seat> {
        let mut assign = assign.to_vec();
        for one in moves {
            assert_eq!(
                assign[usize::from(one.slot.0)],
                one.from,
                "each slot moves once, from where it is"
            );
            assign[usize::from(one.slot.0)] = one.to;
        }
        assign
    }

    fn held(assign: &[Seat], seats: usize) -> Vec<usize> {
        let mut held = vec![0; seats];
        for seat in assign {
            held[usize::from(seat.0)] += 1;
        }
        held
    }

    /// The fewest moves that any plan needs.
    fn fewest(assign: &[Seat], shares: &[Share]) -> usize {
        let all: u64 = shares.iter().map(|share| share.weight).sum();
        let held = held(assign, shares.len());
        let (mut out, mut back) = (0, 0);
        for (share, held) in shares.iter().zip(held) {
            let part = share.weight * SLOTS as u64;
            out += held.saturating_sub(part.div_ceil(all) as usize);
            back += ((part / all) as usize).saturating_sub(held);
        }
        out.max(back)
    }

    /// How uneven the cores of a seat are: the most slots of one above the fewest of another.
    fn unevenness(assign: &[Seat], shares: &[Share]) -> usize {
        let mut worst = 0;
        for (seat, share) in shares.iter().enumerate() {
            let mut counts = vec![0usize; usize::from(share.cores)];
            for (slot, _) in assign.iter().enumerate().filter(|(_, of)| usize::from(of.0) == seat) {
                counts[slot % usize::from(share.cores)] += 1;
            }
            let (min, max) = (counts.iter().min(), counts.iter().max());
            worst = worst.max(max.unwrap_or(&0) - min.unwrap_or(&0));
        }
        worst
    }

    fn check(assign: &[Seat], shares: &[Share]) -> Vec<Seat> {
        let moves = rebalance(assign, shares, usize::MAX);
        assert_eq!(moves.len(), fewest(assign, shares), "no move too many");
        let after = applied(assign, &moves);
        let all: u64 = shares.iter().map(|share| share.weight).sum();
        for (share, held) in shares.iter().zip(held(&after, shares.len())) {
            let part = share.weight * SLOTS as u64;
            let (low, high) = ((part / all) as usize, part.div_ceil(all) as usize);
            assert!((low..=high).contains(&held), "{held} of {low} to {high}");
        }
        after
    }

    fn even(seats: usize) -> Vec<Seat> {
        (0..SLOTS).map(|slot| Seat((slot * seats / SLOTS) as u16)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn seats_come_and_go_with_the_fewest_moves(
            nodes in 1usize..12, cores in 1u8..=32, steps in proptest::collection::vec((any::<bool>(), 1usize..3, any::<u16>()), 1..6),
        ) {
            let mut shares = vec![Share { weight: 4, cores }; nodes * 8];
            let mut assign = even(shares.len());
            for (is_added, count, which) in steps {
                if is_added {
                    shares.extend(vec![Share { weight: 4, cores }; count * 8]);
                } else {
                    let node = usize::from(which) % (shares.len() / 8);
                    for share in &mut shares[node * 8..node * 8 + 8] {
                        share.weight = 0;
                    }
                    if shares.iter().all(|share| share.weight == 0) {
                        prop_assert!(rebalance(&assign, &shares, 1).is_empty());
                        break;
                    }
                }
                assign = check(&assign, &shares);
                let uneven = unevenness(&assign, &shares);
                prop_assert!(uneven <= 2, "{} slots between two cores of a seat", uneven);
            }
        }

        #[test]
        fn any_weights_and_any_tables(
            given in proptest::collection::vec((any::<bool>(), 0u64..1_000, 1u8..=64), 2..40), seed in any::<u64>(),
        ) {
            // Who does not carry the table, and has some of it for once.
            let share = |&(carries, weight, cores)| Share { weight: if carries { weight } else { 0 }, cores };
            let shares: Vec<Share> = given.iter().map(share).collect();
            prop_assume!(shares.iter().any(|share| share.weight > 0));
            let mut state = seed | 1;
            let assign: Vec<Seat> = (0..SLOTS).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Seat(((state >> 33) as usize % shares.len()) as u16)
            }).collect();
            let after = check(&assign, &shares);
            prop_assert_eq!(rebalance(&after, &shares, 1), vec![]);
        }
    }

    #[test]
    fn a_ring_that_nobody_carries_stays_as_it_is() {
        let shares = [Share { weight: 0, cores: 2 }; 3];
        assert_eq!(rebalance(&even(3), &shares, 1), vec![]);
    }
}
