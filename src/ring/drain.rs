//! Regions whose clients are sent elsewhere, by an operator's word. It stands in the seats document, so that whoever follows the ring knows
//! it, and still knows it after a restart.

use serde::{Deserialize, Serialize};

use super::change::{Cell, Changed, refuse};
use super::region::is_name;
use crate::limits::{REGION_PACE_MAX, REGION_SECONDS_MAX, REGIONS_MAX};

/// How fast each core of a region's gateways sends its clients away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// As `moves_per_second` of its limits says.
    #[default]
    Usual,
    /// So many connections of a core in a second.
    PerSecond(u32),
    /// All that are there at the beginning, evenly over so many seconds.
    Seconds(u32),
}

/// One region that drains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drain {
    pub region: String,
    #[serde(default)]
    pub pace: Pace,
}

impl Drain {
    /// Why it cannot be: a sentence.
    pub(super) fn fault(&self) -> Option<String> {
        let Self { region, pace } = self;
        if !is_name(region) {
            return Some(format!("{region:?} is no name of a region"));
        }
        let (number, max, what) = match *pace {
            Pace::Usual => return None,
            Pace::PerSecond(number) => (number, REGION_PACE_MAX, "connections a second"),
            Pace::Seconds(number) => (number, REGION_SECONDS_MAX, "seconds"),
        };
        (number == 0 || number > max).then(|| format!("1 to {max} {what}, and not {number}"))
    }
}

impl Cell {
    /// The clients of a region's gateways are sent elsewhere from now on; or at another pace than until now.
    ///
    /// # Errors
    /// It drains so already, is no name, the pace is none, or too many regions drain.
    pub fn drain_region(&self, region: &str, pace: Pace) -> Changed {
        let mut next = self.next();
        let drains = &mut next.document.drains;
        let drain = Drain { region: region.into(), pace };
        match drains.iter_mut().find(|known| known.region == region) {
            Some(known) if known.pace == pace => {
                return refuse(format!("region {region} drains already"));
            }
            Some(known) => *known = drain,
            None => drains.push(drain),
        }
        next.document.check()?;
        Ok(next)
    }

    /// A region takes clients again.
    ///
    /// # Errors
    /// It does not drain.
    pub fn restore_region(&self, region: &str) -> Changed {
        let mut next = self.next();
        let drains = &mut next.document.drains;
        let was = drains.len();
        drains.retain(|drain| drain.region != region);
        if drains.len() == was {
            return refuse(format!("region {region} does not drain"));
        }
        Ok(next)
    }
}

/// Why a list of them cannot be: a sentence.
pub(super) fn fault(drains: &[Drain]) -> Option<String> {
    if drains.len() > REGIONS_MAX {
        return Some(format!("{} regions that drain are more than {REGIONS_MAX}", drains.len()));
    }
    let is_twice = |at: usize| drains[..at].iter().any(|one| one.region == drains[at].region);
    drains.iter().find_map(Drain::fault).or_else(|| {
        let at = (0..drains.len()).find(|at| is_twice(*at))?;
        Some(format!("region {} drains twice", drains[at].region))
    })
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::cell;
    use super::super::document::Document;
    use super::*;

    #[test]
    fn a_region_drains_until_it_is_restored_and_nothing_else_of_the_ring_changes() {
        let before = cell(2);
        let drains = before.drain_region("eu", Pace::Seconds(60)).expect("drains");
        assert_eq!(drains.document.ring_epoch, before.document.ring_epoch + 1);
        assert_eq!(
            (&drains.channels, &drains.document.seats),
            (&before.channels, &before.document.seats)
        );
        let ring = drains.ring().expect("usable");
        assert_eq!(ring.drain_of("eu"), Some(Pace::Seconds(60)));
        assert_eq!(ring.drain_of("us"), None);
        assert!(drains.drain_region("eu", Pace::Seconds(60)).is_err(), "it does already");
        let faster = drains.drain_region("eu", Pace::PerSecond(500)).expect("another pace");
        assert_eq!(faster.document.drains.len(), 1);
        assert_eq!(Document::decode(&faster.document.encode()).as_ref(), Ok(&faster.document));
        let back = faster.restore_region("eu").expect("restored");
        assert_eq!(back.ring().expect("usable").drain_of("eu"), None);
        assert!(back.restore_region("eu").is_err(), "it does not drain");
    }

    #[test]
    fn a_document_of_before_there_were_regions_reads_and_is_written_as_it_was() {
        let document = cell(2).document;
        let text = String::from_utf8(document.encode()).expect("JSON");
        assert!(!text.contains("drains"), "{text}");
        assert_eq!(Document::decode(text.as_bytes()), Ok(document));
    }

    #[test]
    fn names_paces_and_their_number_have_bounds() {
        let cell = cell(1);
        let long = "x".repeat(crate::limits::REGION_NAME_BYTES_MAX + 1);
        for name in ["", "e u", "eu\n", "é", &long] {
            assert!(cell.drain_region(name, Pace::Usual).is_err(), "{name:?}");
        }
        for pace in [
            Pace::PerSecond(0),
            Pace::PerSecond(REGION_PACE_MAX + 1),
            Pace::Seconds(0),
            Pace::Seconds(REGION_SECONDS_MAX + 1),
        ] {
            assert!(cell.drain_region("eu", pace).is_err(), "{pace:?}");
        }
        let mut full = cell;
        for nth in 0..REGIONS_MAX {
            full = full.drain_region(&format!("r{nth}"), Pace::Usual).expect("room");
        }
        assert!(full.drain_region("one-more", Pace::Usual).is_err());
        full.document.drains[1].region = "r0".into();
        assert!(full.document.check().is_err(), "twice");
    }
}
