//! One look at a ring, or one change of it by compare-and-set.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::arguments::{RingConfig, Wish};
use super::region;
use super::show::{Done, Planned, Shown, told};
use crate::ids::NodeId;
use crate::ring::change::Cell;
use crate::ring::document::Unusable;
use crate::ring::store::file::RingFile;
use crate::ring::store::{Failed, Store, Stored};

/// Others may write at the same time; who loses so often has met something that never rests.
const TRIES: u32 = 16;

pub(super) async fn run(config: &RingConfig) -> Result<String, String> {
    let store = Store::new(&config.store, &config.cell)?;
    match &config.wish {
        Wish::Show => Ok(told(config.json, &Shown::of(&read(&store, config).await?.cell))),
        Wish::Plan => Ok(planned(config, &read(&store, config).await?.cell)),
        Wish::Create(nodes) => {
            let mut nodes = nodes.clone();
            for (nth, node) in nodes.iter_mut().enumerate() {
                node.id = nth as u16 + 1;
            }
            let cell = Cell::new(&config.cell, nodes).map_err(sentence)?;
            if !store.create(&cell).await.map_err(|failed| failed.to_string())? {
                return Err(format!("cell {} has a ring already", config.cell));
            }
            Ok(told(config.json, &Shown::of(&cell)))
        }
        Wish::Add(node) => {
            let next = change(&store, config, |cell| cell.add(node.clone()));
            Ok(planned(config, &next.await?))
        }
        Wish::Freeze(frozen) => {
            let next = change(&store, config, |cell| cell.freeze(*frozen)).await?;
            Ok(told(config.json, &Shown::of(&next)))
        }
        Wish::Weigh(name, weight) => {
            let next = change(&store, config, |cell| cell.weigh(name, *weight));
            Ok(planned(config, &next.await?))
        }
        Wish::Replace(name, by) => {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let next = change(&store, config, |cell| {
                let everybody = cell.document.nodes.iter().map(|node| node.name.as_str());
                let by: Vec<&str> = if by.is_empty() {
                    everybody.collect()
                } else {
                    by.iter().map(String::as_str).collect()
                };
                let next = cell.replace(name, &by)?;
                let node = next.document.named(name).map(|node| NodeId(node.id));
                Ok(next.stamped(node.expect("it stays known"), since_1970.as_secs()))
            });
            Ok(planned(config, &next.await?))
        }
        Wish::Move(kind, slot, seat) => {
            let next = change(&store, config, |cell| cell.move_slot(*kind, *slot, *seat));
            Ok(planned(config, &next.await?))
        }
        Wish::Restore(files) => restore(&store, config, files).await,
        Wish::Region(wish) => region::run(&store, config, wish).await,
        Wish::CarryOut { pause, writes } => carry_out(&store, config, *pause, *writes).await,
        Wish::Drain { name, pause } => {
            change(&store, config, |cell| cell.weigh(name, 0)).await?;
            carry_out(&store, config, *pause, u32::MAX).await
        }
    }
}

/// Writes the newest ring of these files over what the store has. What is no ring there is overwritten too.
async fn restore(store: &Store, config: &RingConfig, files: &[PathBuf]) -> Result<String, String> {
    let mut known = Vec::with_capacity(files.len());
    for file in files {
        let read = RingFile::at(file.clone()).load(&config.cell).map_err(sentence)?;
        known.push(read.ok_or_else(|| format!("{}: no such file", file.display()))?);
    }
    // The mark first: what is written in between shows in it.
    let mark = store.mark().await.map_err(|failed| failed.to_string())?;
    let stored = match store.read().await {
        Ok(stored) => stored.map(|stored| stored.cell),
        Err(Failed::Unusable(_)) => None,
        Err(failed) => return Err(failed.to_string()),
    };
    let next = Cell::restored(stored.as_ref(), &known).map_err(sentence)?;
    match store.put(&next, mark).await {
        Ok(true) => Ok(told(config.json, &Shown::of(&next))),
        Ok(false) => Err("somebody else wrote the ring meanwhile: try it again".into()),
        Err(failed) => Err(failed.to_string()),
    }
}

/// Writes the steps of the plan until none is left, or so many.
async fn carry_out(
    store: &Store,
    config: &RingConfig,
    pause: Duration,
    writes: u32,
) -> Result<String, String> {
    let mut done = Done::default();
    let mut lost = 0;
    while done.writes < writes {
        if lost == TRIES {
            return Err(format!(
                "others wrote the ring {TRIES} times in between: {} writes were done, and the plan is not",
                done.writes
            ));
        }
        let stored = read(store, config).await?;
        let Some((next, plan)) = stored.cell.step() else { break };
        if !swap(store, config, &stored, &next).await? {
            lost += 1;
            continue;
        }
        lost = 0;
        done.add(next.document.ring_epoch, &plan);
        tokio::time::sleep(pause).await;
    }
    Ok(told(config.json, &done))
}

/// What is still to move.
fn planned(config: &RingConfig, cell: &Cell) -> String {
    told(config.json, &Planned::of(cell, &cell.plan()))
}

/// The ring that was written: reads, changes, writes; again when somebody else wrote in between.
pub(super) async fn change(
    store: &Store,
    config: &RingConfig,
    wanted: impl Fn(&Cell) -> Result<Cell, Unusable>,
) -> Result<Cell, String> {
    let mut tried = None;
    for _ in 0..TRIES {
        let stored = read(store, config).await?;
        // A write whose end nobody knew may be done after we looked for it.
        let is_done = tried.as_ref() == Some(&stored.cell);
        let next =
            if is_done { stored.cell.clone() } else { wanted(&stored.cell).map_err(sentence)? };
        if is_done || swap(store, config, &stored, &next).await? {
            return Ok(next);
        }
        tried = Some(next);
    }
    Err(format!("others wrote the ring {TRIES} times in between: nothing was done"))
}

pub(super) async fn read(store: &Store, config: &RingConfig) -> Result<Stored, String> {
    let stored = store.read().await.map_err(|failed| failed.to_string())?;
    stored
        .ok_or_else(|| format!("cell {} has no ring yet: `campanile ctl ring create`", config.cell))
}

/// False: somebody else wrote. An outcome that nobody knows is looked up.
async fn swap(
    store: &Store,
    config: &RingConfig,
    was: &Stored,
    next: &Cell,
) -> Result<bool, String> {
    match store.swap(was, next).await {
        Ok(done) => Ok(done),
        Err(Failed::Unknown(why)) => match read(store, config).await {
            Ok(now) => Ok(now.cell == *next),
            Err(_) => Err(Failed::Unknown(why).to_string()),
        },
        Err(failed) => Err(failed.to_string()),
    }
}

fn sentence(why: Unusable) -> String {
    why.0
}
