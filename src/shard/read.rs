//! Reading messages and index pages: from memory, or after a wait.

use corelane_storage::index::PageKey;
use corelane_storage::log::{Read, ReadHint, ReadId};
use corelane_storage::record::RecordIn;

use super::Shard;
use super::requests::Wait;

/// What became of a page that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is loaded: ask again.
    Loaded,
    /// It is being read.
    Pending(ReadId),
    /// It cannot be read; the text is for the operator. Nothing was deleted.
    Failed(String),
}

/// Stands for "any read": used when all of the read memory is waited for.
pub const ANY_READ: ReadId = ReadId(u64::MAX);

impl Shard {
    /// Loads a page of a stream's index.
    pub(super) fn fetch_page(&mut self, slot: usize, key: PageKey) -> Fetched {
        let index = &mut self.cells[slot].index;
        let Some(location) = index.location(key) else {
            return Fetched::Failed(format!("index page {key:?} has no place"));
        };
        let read =
            self.log.read(location.position, location.len, ReadHint::One, &mut self.ops);
        match read {
            Ok(Read::Ready(view)) => match view.content() {
                RecordIn::Meta(meta) => match index.load_page(key, meta.body) {
                    Ok(()) => Fetched::Loaded,
                    Err(e) => Fetched::Failed(e.to_string()),
                },
                RecordIn::Message(_) => Fetched::Failed(format!("{key:?} is a message")),
            },
            Ok(Read::Pending(read)) => Fetched::Pending(read),
            Ok(Read::Busy) => Fetched::Pending(ANY_READ),
            Err(e) => Fetched::Failed(e.to_string()),
        }
    }

    /// As `fetch_page`, for a request: `Ok` if the page is there now.
    pub(super) fn want_page(&mut self, slot: usize, key: PageKey) -> Result<Result<(), String>, Wait> {
        match self.fetch_page(slot, key) {
            Fetched::Loaded => Ok(Ok(())),
            Fetched::Pending(read) => Err(Wait::Read(read)),
            Fetched::Failed(text) => Ok(Err(text)),
        }
    }
}
