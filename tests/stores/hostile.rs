//! What Consul does on a bad day (`reliability.md` 4.4): nobody is told a wrong ring, nothing is believed to be written that may not be, and
//! nothing is asked in a hot loop.

use std::time::{Duration, Instant};

use campanile::ring::change::Cell;
use campanile::ring::store::{Failed, Store, Stored};
use campanile::ring::view::{Offered, View};

use super::double::{Double, Fault};
use super::{cell, run};

async fn with_ring() -> (Double, Store, Stored) {
    let double = Double::start().await;
    let store = Store::new(&double.address, "x").expect("a store");
    assert_eq!(store.create(&cell("x", 3)).await, Ok(true));
    let stored = store.read().await.expect("an answer").expect("a ring");
    (double, store, stored)
}

#[test]
fn what_cannot_be_read_is_no_ring_and_says_why() {
    run(async {
        let (double, store, stored) = with_ring().await;
        for (fault, is_there) in [
            (Fault::NoLeader, false),
            (Fault::TooMany, false),
            (Fault::SlowBody, false),
            (Fault::Huge, true),
            (Fault::Garbage, true),
            (Fault::BadBase64, true),
            (Fault::Flipped, true),
        ] {
            double.fault(fault);
            let began = Instant::now();
            match store.read().await {
                Err(Failed::Unreachable(why)) if !is_there => assert!(!why.is_empty(), "{fault:?}"),
                Err(Failed::Unusable(why)) if is_there => assert!(!why.is_empty(), "{fault:?}"),
                other => panic!("{fault:?}: {other:?}"),
            }
            assert!(began.elapsed() < Duration::from_secs(8), "{fault:?}: nobody waits for ever");
            double.fault(Fault::None);
            assert_eq!(store.read().await, Ok(Some(stored.clone())), "after {fault:?}");
        }
        double.forget("rt/x/ring/users");
        let missing = store.read().await.expect_err("half a ring");
        assert!(missing.to_string().contains("has no users"), "{missing}");
        double.forget("rt/x/ring/seats");
        assert_eq!(store.read().await, Ok(None), "somebody makes a ring: its seats come last");
    });
}

#[test]
fn a_write_without_an_answer_is_unknown_and_a_read_tells() {
    run(async {
        let (double, store, _) = with_ring().await;
        for (fault, is_done) in [
            (Fault::CutAfterWrite, true),
            (Fault::FailAfterWrite, true),
            (Fault::SlowWrite, true),
            (Fault::NoLeader, false),
        ] {
            let was = store.read().await.expect("an answer").expect("a ring");
            let next =
                was.cell.weigh("cs1", 50 + was.cell.document.ring_epoch as u32).expect("weighed");
            double.fault(fault);
            let swapped = store.swap(&was, &next).await;
            assert!(matches!(swapped, Err(Failed::Unknown(_))), "{fault:?}: {swapped:?}");
            double.fault(Fault::None);
            let after = store.read().await.expect("an answer").expect("a ring");
            assert_eq!(after.cell == next, is_done, "{fault:?}");
            // Said again it is never done twice.
            assert_eq!(store.swap(&was, &next).await, Ok(!is_done), "{fault:?}");
        }
    });
}

#[test]
fn a_store_that_went_back_in_time_is_not_followed() {
    run(async {
        let (double, store, stored) = with_ring().await;
        let old = double.snapshot();
        let next = stored.cell.replace("cs1", &["cs2", "cs3"]).expect("replaced");
        assert_eq!(store.swap(&stored, &next).await, Ok(true));
        let mut view = View::default();
        let newest = store.read().await.expect("an answer").expect("a ring");
        assert_eq!(view.offer(&newest.cell), Offered::Newer);
        double.restore(old.clone());
        let back = store.read().await.expect("an answer").expect("a ring");
        assert_eq!(back.cell, stored.cell, "the store itself does not know");
        assert_eq!(view.offer(&back.cell), Offered::Older { known: 2, offered: 1 });
        // Another history from there on, up to the same epoch: not the same ring.
        let other = back.cell.replace("cs2", &["cs1", "cs3"]).expect("replaced");
        assert_eq!(store.swap(&back, &other).await, Ok(true));
        let forked = store.read().await.expect("an answer").expect("a ring");
        assert_eq!(view.offer(&forked.cell), Offered::Forked { epoch: 2 });
        assert_eq!(view.cell(), Some(&newest.cell));
        // What was read before the restore cannot be written after it.
        double.restore(old);
        assert_eq!(store.swap(&newest, &next.weigh("cs2", 5).expect("weighed")).await, Ok(false));
    });
}

#[test]
fn who_follows_a_store_that_goes_back_keeps_its_ring_until_there_is_a_newer_one() {
    run(async {
        let (double, store, stored) = with_ring().await;
        let old = double.snapshot();
        let (follower, mut told) = following(&store, &stored).await;
        let next = stored.cell.weigh("cs1", 7).expect("weighed");
        assert_eq!(store.swap(&stored, &next).await, Ok(true));
        assert_eq!(told.recv().await, Some(next));
        // Its indexes are lower now than those that were watched, and so they are after the writes that come.
        double.restore(old);
        let mut newest = store.read().await.expect("an answer").expect("a ring");
        for weight in [8, 9] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(told.try_recv().is_err(), "older, or of the same epoch");
            let next = newest.cell.weigh("cs2", weight).expect("weighed");
            assert_eq!(store.swap(&newest, &next).await, Ok(true));
            newest = store.read().await.expect("an answer").expect("a ring");
        }
        let news = tokio::time::timeout(Duration::from_secs(5), told.recv()).await;
        assert_eq!(news.expect("soon"), Some(newest.cell));
        follower.abort();
    });
}

/// Somebody who follows the store, what he is told, and by which way else rings come to him.
struct Following {
    follower: tokio::task::JoinHandle<()>,
    told: tokio::sync::mpsc::Receiver<Cell>,
    taken: tokio::sync::watch::Sender<View>,
}

fn follow(store: &Store, view: View, head_start: Duration) -> Following {
    let (taken, view) = tokio::sync::watch::channel(view);
    let (tell, told) = tokio::sync::mpsc::channel(64);
    let following = campanile::ring::store::follow(store.clone(), view, head_start, tell);
    Following { follower: tokio::spawn(following), told, taken }
}

/// Nothing comes to him by another way; what he is told after the ring that is there.
async fn following(
    store: &Store,
    stored: &Stored,
) -> (tokio::task::JoinHandle<()>, tokio::sync::mpsc::Receiver<Cell>) {
    let Following { follower, mut told, .. } = follow(store, View::default(), Duration::ZERO);
    assert_eq!(told.recv().await.as_ref(), Some(&stored.cell));
    (follower, told)
}

#[test]
fn who_has_a_ring_by_another_way_reads_no_tables_of_it() {
    run(async {
        let (double, store, stored) = with_ring().await;
        let before = double.asked();
        let Following { follower, mut told, .. } =
            follow(&store, View::of(&stored.cell), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(told.try_recv().is_err(), "it has it");
        assert_eq!(double.asked() - before, 2, "the seats, and to be told of another");
        let next = stored.cell.weigh("cs1", 7).expect("weighed");
        assert_eq!(store.swap(&stored, &next).await, Ok(true));
        let news = tokio::time::timeout(Duration::from_secs(5), told.recv()).await;
        assert_eq!(news.expect("soon").as_ref(), Some(&next));
        follower.abort();
    });
}

/// A push that is late is waited for by who was pushed the ring before, and by nobody else.
#[test]
fn other_ways_have_a_head_start_as_long_as_they_are_the_first() {
    const HEAD_START: Duration = Duration::from_secs(1);
    run(async {
        let (_double, store, mut stored) = with_ring().await;
        let Following { follower, mut told, taken } =
            follow(&store, View::of(&stored.cell), HEAD_START);
        for (weight, is_pushed, is_waited_for) in
            [(3, false, false), (4, true, false), (5, false, true), (6, false, false)]
        {
            tokio::time::sleep(Duration::from_millis(600)).await;
            let next = stored.cell.weigh("cs1", weight).expect("weighed");
            if is_pushed {
                taken.send_modify(|view| assert_eq!(view.offer(&next), Offered::Newer));
            }
            let began = tokio::time::Instant::now();
            assert_eq!(store.swap(&stored, &next).await, Ok(true));
            if is_pushed {
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert!(told.try_recv().is_err(), "it has it");
            } else {
                assert_eq!(told.recv().await.as_ref(), Some(&next));
                taken.send_modify(|view| assert_eq!(view.offer(&next), Offered::Newer));
                let waited = began.elapsed() >= HEAD_START;
                assert_eq!(waited, is_waited_for, "{:?} for ring {weight}", began.elapsed());
            }
            stored = store.read().await.expect("an answer").expect("a ring");
        }
        follower.abort();
    });
}

#[test]
fn rings_are_told_as_fast_as_they_are_written() {
    run(async {
        let (_double, store, mut stored) = with_ring().await;
        let (follower, mut told) = following(&store, &stored).await;
        let began = tokio::time::Instant::now();
        for weight in 1..=12 {
            let next = stored.cell.weigh("cs1", weight).expect("weighed");
            assert_eq!(store.swap(&stored, &next).await, Ok(true));
            assert_eq!(told.recv().await, Some(next));
            stored = store.read().await.expect("an answer").expect("a ring");
        }
        let took = began.elapsed();
        assert!(took < Duration::from_millis(1_500), "{took:?} for twelve rings");
        follower.abort();
    });
}

#[test]
fn watches_that_return_without_news_are_paced() {
    run(async {
        let (double, store, stored) = with_ring().await;
        double.fault(Fault::Spurious);
        let before = double.asked();
        let (follower, mut told) = following(&store, &stored).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asked = double.asked() - before;
        assert!(asked < 30, "{asked} requests in 3 s");
        assert!(told.try_recv().is_err(), "no news");
        follower.abort();
    });
}

#[test]
fn who_follows_is_told_of_every_state_it_could_see_and_outlives_a_store_without_a_leader() {
    run(async {
        let (double, store, mut stored) = with_ring().await;
        let (follower, mut told) = following(&store, &stored).await;
        for fault in [Fault::None, Fault::NoLeader, Fault::TooMany, Fault::Garbage] {
            double.fault(fault);
            tokio::time::sleep(Duration::from_millis(200)).await;
            double.fault(Fault::None);
            let next = stored
                .cell
                .weigh("cs1", 7 + stored.cell.document.ring_epoch as u32)
                .expect("weighed");
            assert_eq!(store.swap(&stored, &next).await, Ok(true));
            let news = tokio::time::timeout(Duration::from_secs(5), told.recv()).await;
            assert_eq!(news.expect("soon").as_ref(), Some(&next), "after {fault:?}");
            stored = store.read().await.expect("an answer").expect("a ring");
        }
        follower.abort();
    });
}
