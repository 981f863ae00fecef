//! The last ring that a node knew, on its disk: who owns nothing starts with it when the store is away, and a store that went back in time
//! is known as such after a restart too (I5).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::ring::change::Cell;
use crate::ring::document::Unusable;
use crate::ring::news;

/// Where one node of one cell keeps it.
#[derive(Clone, Debug)]
pub struct RingFile {
    path: PathBuf,
}

impl RingFile {
    pub fn new(directory: &Path, cell: &str, node: &str) -> Self {
        Self { path: directory.join(format!("{cell}.{node}.ring")) }
    }

    /// One that an operator names.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// Of the disk. The node goes on without.
    pub fn save(&self, cell: &Cell) -> std::io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension("ring.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&news::whole(cell))?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }

    /// The ring that was saved last. `None`: there is none.
    ///
    /// # Errors
    /// What is there is no ring: cut, changed, or of another cell.
    pub fn load(&self, cell: &str) -> Result<Option<Cell>, Unusable> {
        let fault = |why: &dyn std::fmt::Display| {
            Unusable(format!(
                "{}: {why}; remove it, if the ring store is there",
                self.path.display()
            ))
        };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(&error)),
        };
        let read = news::read(&bytes).map_err(|why| fault(&why))?;
        if read.document.cell != cell {
            return Err(fault(&format_args!("the ring of cell {}", read.document.cell)));
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::change::tests::cell;

    #[test]
    fn the_last_ring_is_there_after_a_restart_and_nothing_else_is_taken_for_it() {
        let home = tempfile::tempdir().expect("a directory");
        let file = RingFile::new(&home.path().join("new"), "one", "gw");
        assert_eq!(file.load("one"), Ok(None));
        let first = cell(3);
        file.save(&first).expect("saved");
        let next = first.freeze(true).expect("frozen");
        file.save(&next).expect("saved");
        assert_eq!(file.load("one"), Ok(Some(next)));
        assert!(file.load("two").is_err(), "the ring of another cell");
        let whole = std::fs::read(file.path()).expect("there");
        for at in [0, 5, whole.len() / 2, whole.len() - 1] {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            std::fs::write(file.path(), broken).expect("written");
            assert!(file.load("one").is_err(), "byte {at}");
        }
        std::fs::write(file.path(), &whole[..whole.len() - 9]).expect("written");
        assert!(file.load("one").is_err());
    }
}
