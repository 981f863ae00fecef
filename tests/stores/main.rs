//! The contract of a ring store, the same for all of them: memory and the double always, Consul and etcd where `CONSUL` and `ETCD` name
//! their addresses (`tests/stores.sh` starts real ones and sets both).

mod ctl;
mod double;
mod hostile;

use std::time::{Duration, Instant};

use campanile::ids::{Seat, Slot};
use campanile::ring::assign::Kind;
use campanile::ring::carries::Carries;
use campanile::ring::change::Cell;
use campanile::ring::document::NodeEntry;
use campanile::ring::store::{Failed, Store};

fn node(id: u16) -> NodeEntry {
    NodeEntry {
        id,
        incarnation: u128::from(id) + 1,
        zone: "a".into(),
        ..NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), 2)
    }
}

fn cell(name: &str, nodes: u16) -> Cell {
    Cell::new(name, (1..=nodes).map(node).collect()).expect("a ring")
}

/// A cell of its own for each test and run.
fn name(test: &str) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{test}-{}-{}", std::process::id(), now.as_nanos())
}

/// Every store that is there, with an empty cell.
async fn stores(test: &str) -> Vec<(Store, String)> {
    let mut addresses = vec!["memory:".to_string(), double::Double::start().await.address];
    addresses.extend(["CONSUL", "ETCD"].iter().filter_map(|name| std::env::var(name).ok()));
    let name = name(test);
    addresses
        .iter()
        .map(|address| (Store::new(address, &name).expect("a store"), name.clone()))
        .collect()
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test);
}

#[test]
fn an_empty_store_has_no_ring_and_the_first_one_stays() {
    run(async {
        for (store, name) in stores("first").await {
            assert_eq!(store.read().await, Ok(None), "{store:?}");
            assert_eq!(store.seats().await, Ok(None), "{store:?}");
            assert_eq!(store.create(&cell(&name, 3)).await, Ok(true), "{store:?}");
            assert_eq!(store.create(&cell(&name, 2)).await, Ok(false), "{store:?}");
            let stored = store.read().await.expect("an answer").expect("a ring");
            assert_eq!(stored.cell, cell(&name, 3), "{store:?}");
            assert_eq!(store.seats().await, Ok(Some(stored.cell.document)), "{store:?}");
        }
    });
}

#[test]
fn of_two_writers_one_wins_and_nothing_of_the_other_is_there() {
    run(async {
        for (store, name) in stores("swap").await {
            assert_eq!(store.create(&cell(&name, 3)).await, Ok(true));
            let read = store.read().await.expect("an answer").expect("a ring");
            let replaced = read.cell.replace("cs2", &["cs1", "cs3"]).expect("replaced");
            let added = read.cell.add(node(4)).expect("added");
            assert_eq!(store.swap(&read, &replaced).await, Ok(true), "{store:?}");
            assert_eq!(store.swap(&read, &added).await, Ok(false), "{store:?}");
            let after = store.read().await.expect("an answer").expect("a ring");
            assert_eq!(after.cell, replaced, "{store:?}");
            // Tables too, and only together with their document.
            let added = after.cell.add(node(4)).expect("added");
            assert_eq!(store.swap(&after, &added).await, Ok(true), "{store:?}");
            let before = store.read().await.expect("an answer").expect("a ring");
            let (stepped, plan) = before.cell.step().expect("slots for the new one");
            assert!(!plan.is_empty());
            assert_eq!(store.swap(&before, &stepped).await, Ok(true), "{store:?}");
            assert_eq!(store.swap(&before, &stepped).await, Ok(false), "{store:?}");
            assert_eq!(store.swap(&after, &stepped).await, Ok(false), "{store:?}");
            assert_eq!(
                store.read().await.expect("an answer").expect("a ring").cell,
                stepped,
                "{store:?}"
            );
        }
    });
}

#[test]
fn whatever_is_there_is_overwritten_by_whoever_saw_it_last() {
    run(async {
        for (store, name) in stores("put").await {
            let first = cell(&name, 3);
            assert_eq!(store.mark().await, Ok(None), "{store:?}");
            assert_eq!(store.put(&first, None).await, Ok(true), "{store:?}: an empty store");
            let seen = store.mark().await.expect("an answer");
            // Both tables and the seats: more than one write of Consul's takes.
            let moved = first.move_slot(Kind::Users, Slot(7), Seat(9)).expect("moved");
            let moved = moved.move_slot(Kind::Channels, Slot(7), Seat(9)).expect("moved");
            assert_eq!(store.put(&moved, None).await, Ok(false), "{store:?}: it is not empty");
            assert_eq!(store.put(&moved, seen).await, Ok(true), "{store:?}");
            assert_eq!(store.put(&first, seen).await, Ok(false), "{store:?}: seen too early");
            let stored = store.read().await.expect("an answer").expect("a ring");
            assert_eq!(stored.cell, moved, "{store:?}");
        }
    });
}

#[test]
fn sixteen_writers_at_once_make_one_chain_of_epochs() {
    run(async {
        for (store, name) in stores("chain").await {
            assert_eq!(store.create(&cell(&name, 2)).await, Ok(true));
            let writers: Vec<_> = (0..16u32)
                .map(|nth| {
                    let store = store.clone();
                    tokio::spawn(async move {
                        let (mut won, mut lost) = (0, 0);
                        while won < 3 && lost < 500 {
                            let read = store.read().await.expect("an answer").expect("a ring");
                            let next = read.cell.weigh("cs1", 100 + nth).expect("weighed");
                            if store.swap(&read, &next).await.expect("an answer") {
                                won += 1;
                            } else {
                                lost += 1;
                            }
                        }
                        won
                    })
                })
                .collect();
            let mut won = 0;
            for writer in writers {
                won += writer.await.expect("it ends");
            }
            let after = store.read().await.expect("an answer").expect("a ring");
            assert_eq!(won, 48, "{store:?}");
            assert_eq!(after.cell.document.ring_epoch, 1 + 48, "{store:?}");
        }
    });
}

#[test]
fn a_watch_tells_soon_and_also_what_was_written_before_it_began() {
    run(async {
        for (store, name) in stores("watch").await {
            assert_eq!(store.create(&cell(&name, 2)).await, Ok(true));
            let read = store.read().await.expect("an answer").expect("a ring");
            let watcher = tokio::spawn({
                let (store, seats) = (store.clone(), read.seats);
                async move { store.changed(seats).await.map(|()| Instant::now()) }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!watcher.is_finished(), "nothing happened yet: {store:?}");
            let next = read.cell.weigh("cs1", 7).expect("weighed");
            assert_eq!(store.swap(&read, &next).await, Ok(true));
            let written = Instant::now();
            let told = tokio::time::timeout(Duration::from_secs(5), watcher).await;
            let told = told.expect("within 5 s").expect("it ends").expect("news");
            println!("{store:?} told after {:?}", told.saturating_duration_since(written));
            // One that begins late misses nothing.
            let late =
                tokio::time::timeout(Duration::from_secs(5), store.changed(read.seats)).await;
            assert_eq!(late.expect("at once"), Ok(()), "{store:?}");
        }
    });
}

#[test]
fn a_ring_of_the_largest_size_that_is_planned_for_fits_a_write() {
    run(async {
        for (store, name) in stores("large").await {
            // 1,000 nodes, 8,000 seats; a node of one table has more to say.
            let apart = [Carries::Channels, Carries::Users];
            let nodes =
                (1..=1_000).map(|id| NodeEntry { carries: apart[usize::from(id % 2)], ..node(id) });
            let nodes = nodes.collect();
            assert_eq!(
                store.create(&Cell::new(&name, nodes).expect("a ring")).await,
                Ok(true),
                "{store:?}"
            );
            let read = store.read().await.expect("an answer").expect("a ring");
            let added = read.cell.add(node(1_001)).expect("added");
            assert_eq!(store.swap(&read, &added).await, Ok(true), "{store:?}");
            let read = store.read().await.expect("an answer").expect("a ring");
            let (stepped, plan) = read.cell.step().expect("slots for the new one");
            assert_eq!(plan.len(), 128, "sixteen a seat");
            assert_eq!(store.swap(&read, &stepped).await, Ok(true), "{store:?}");
        }
    });
}

#[test]
fn a_store_that_is_not_there_says_so() {
    run(async {
        for address in ["consul://127.0.0.1:9", "etcd://127.0.0.1:9,127.0.0.1:10"] {
            let store = Store::new(address, "x").expect("a store");
            assert!(matches!(store.read().await, Err(Failed::Unreachable(_))), "{address}");
        }
    });
    for address in ["", "consul:", "consul://", "http://x", "zookeeper://x:1", "memory:x"] {
        let error = Store::new(address, "x").expect_err(address);
        assert!(error.contains("no ring store"), "{error}");
    }
    assert!(Store::new("memory:", "a/b").is_err());
}
