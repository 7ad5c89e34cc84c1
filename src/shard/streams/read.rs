//! Reading messages and index pages: from memory, or after a wait.

use corelane_storage::index::{Lookup, PageKey};
use corelane_storage::log::{Read, ReadError, ReadHint, ReadId};
use corelane_storage::record::RecordIn;

use crate::shard::effects::ShardEffects;
use crate::shard::request::{ANY_READ, Wait};
use crate::shard::state::Shard;
use crate::shard::state::stream::ShardStream;

/// What became of a page that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is loaded: ask again.
    Loaded,
    /// It is being read.
    Pending(ReadId),
    /// The device did not read it, and may when it is asked again; the text is for the operator.
    Failed(String),
    /// Something else lies in its place, and will when it is read again. Nothing was deleted.
    Damaged(String),
}

/// How often the log says that something of a stream cannot be read, in nanoseconds.
const COMPLAIN_AGAIN: i64 = 10_000_000_000;

/// Bytes of a full page of sequences in memory.
const PAGE_BYTES: usize = 64 << 10;
/// Streams that are looked at to make room for one page.
const EVICT_STREAMS: usize = 32;
/// Bytes of pages that make room for one at most.
const EVICT_BYTES: usize = 4 * PAGE_BYTES;

/// Times of messages that a stream remembers for searches.
const TIMES_MAX: usize = 64;

impl Shard {
    /// Loads a page of a stream's index.
    pub(in crate::shard) fn fetch_page(&mut self, slot: usize, key: PageKey) -> Fetched {
        let Some(location) = self.streams[slot].index.location(key) else {
            return Fetched::Damaged(format!("index page {key:?} has no place"));
        };
        let read =
            self.log.read(location.position, location.len, ReadHint::One, &mut self.device.ops);
        match read {
            Ok(Read::Ready(view)) => match view.content() {
                RecordIn::Meta(meta) => {
                    // Room is made before the page comes, so that it is not the one to go.
                    let resident = &mut self.checkpoint.resident;
                    let over =
                        (*resident + PAGE_BYTES).saturating_sub(self.options.index_cache_bytes);
                    if over > 0 {
                        let next = &mut self.checkpoint.evict_next;
                        let freed = evict(&mut self.streams, next, slot, over.min(EVICT_BYTES));
                        *resident = resident.saturating_sub(freed);
                    }
                    *resident += PAGE_BYTES;
                    let index = &mut self.streams[slot].index;
                    match index.load_page(key, location.position, meta.body) {
                        Ok(()) => {
                            self.pages_read += 1;
                            Fetched::Loaded
                        }
                        Err(e) => Fetched::Damaged(e.to_string()),
                    }
                }
                RecordIn::Message(_) => Fetched::Damaged(format!("{key:?} is a message")),
            },
            Ok(Read::Pending(read)) => Fetched::Pending(read),
            Ok(Read::Busy) => Fetched::Pending(ANY_READ),
            Err(e @ ReadError::Device { .. }) => Fetched::Failed(e.to_string()),
            Err(e) => Fetched::Damaged(e.to_string()),
        }
    }

    /// Says that something of a stream cannot be read, but not again and again.
    pub(in crate::shard) fn complain(
        &mut self,
        slot: usize,
        why: std::fmt::Arguments<'_>,
        out: &mut impl ShardEffects,
    ) {
        let now = self.clocks.now;
        let stream = &mut self.streams[slot];
        if stream.complained_at.is_none_or(|at| at.plus(COMPLAIN_AGAIN) <= now) {
            stream.complained_at = Some(now);
            out.log(format!("stream '{}': {why}", stream.config.name));
        }
    }

    /// Asks for a page that will be needed soon, unless it would push out what is in use.
    pub(in crate::shard) fn fetch_page_early(&mut self, slot: usize, key: PageKey) {
        if self.checkpoint.resident + 4 * PAGE_BYTES <= self.options.index_cache_bytes {
            // Whether it comes is seen when it is needed.
            let _ = self.fetch_page(slot, key);
        }
    }

    /// As `fetch_page`, for a request: `Ok` if the page is there now.
    pub(in crate::shard) fn want_page(
        &mut self,
        slot: usize,
        key: PageKey,
    ) -> Result<Result<(), String>, Wait> {
        match self.fetch_page(slot, key) {
            Fetched::Loaded => Ok(Ok(())),
            Fetched::Pending(read) => Err(Wait::Read(read)),
            Fetched::Failed(text) | Fetched::Damaged(text) => Ok(Err(text)),
        }
    }
}

/// Drops index pages of the shard's streams until `want` bytes are free: of one after the other,
/// from `next` on, so that none pays for all. Few streams are looked at: if that is not enough, the
/// one at hand gives up its own. Answers how many bytes went.
fn evict(
    streams: &mut slab::Slab<ShardStream>,
    next: &mut usize,
    at_hand: usize,
    want: usize,
) -> usize {
    let end = streams.capacity().max(1);
    let mut freed = 0;
    for _ in 0..EVICT_STREAMS.min(end) {
        let stream = streams.get_mut(*next % end).filter(|stream| !stream.is_memory());
        let index = stream.map(|stream| &mut stream.index);
        if let Some(index) = index.filter(|index| index.sequence_bytes() >= PAGE_BYTES) {
            // A page of each: what is left comes from the next one.
            freed += index.evict(PAGE_BYTES.min(want - freed));
        }
        *next = (*next + 1) % end;
        if freed >= want {
            return freed;
        }
    }
    freed + streams[at_hand].index.evict(want - freed)
}

/// Why a message was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is no such message.
    NotThere,
    /// It has to be waited for.
    Wait(Wait),
    /// It cannot be read; nothing was deleted.
    Failed(String),
}

impl From<Wait> for Unread {
    fn from(wait: Wait) -> Self {
        Unread::Wait(wait)
    }
}

/// A message as stored, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// Its sequence.
    pub seq: u64,
    /// When it was stored, in nanoseconds since the epoch.
    pub ts: i64,
    /// Its subject.
    pub subject: &'a [u8],
    /// Its header block, or empty.
    pub headers: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

impl Shard {
    /// Reads one message.
    pub(in crate::shard) fn with_message<R>(
        &mut self,
        slot: usize,
        seq: u64,
        hint: ReadHint,
        act: impl FnOnce(&MessageRef<'_>) -> R,
    ) -> Result<R, Unread> {
        let entry = loop {
            match self.streams[slot].index.get(seq) {
                Lookup::Found(entry) => break entry,
                Lookup::Deleted | Lookup::OutOfRange => return Err(Unread::NotThere),
                Lookup::NeedPage(key) => {
                    self.want_page(slot, key)?.map_err(Unread::Failed)?;
                }
            }
        };
        if let Some(memory) = &self.streams[slot].memory {
            let m = memory.get(seq).ok_or(Unread::NotThere)?;
            return Ok(act(&MessageRef {
                seq,
                ts: m.ts,
                subject: m.subject(),
                headers: m.headers(),
                payload: m.payload(),
            }));
        }
        match self.log.read(entry.position, entry.size, hint, &mut self.device.ops) {
            Ok(Read::Ready(view)) => match view.message() {
                Some(m) => Ok(act(&MessageRef {
                    seq,
                    ts: m.ts,
                    subject: m.subject,
                    headers: m.headers,
                    payload: m.payload,
                })),
                None => Err(Unread::Failed(format!("message {seq} is not where the index says"))),
            },
            Ok(Read::Pending(read)) => Err(Unread::Wait(Wait::Read(read))),
            Ok(Read::Busy) => Err(Unread::Wait(Wait::Read(ANY_READ))),
            Err(e) => Err(Unread::Failed(e.to_string())),
        }
    }

    /// When a message was stored.
    pub(in crate::shard) fn time_of(&mut self, slot: usize, seq: u64) -> Result<i64, Unread> {
        self.with_message(slot, seq, ReadHint::One, |m| m.ts)
    }

    /// The first live message stored at or after `time`; one past the last sequence if there is
    /// none.
    pub(in crate::shard) fn first_since(&mut self, slot: usize, time: i64) -> Result<u64, Unread> {
        let ShardStream { index, times, .. } = &self.streams[slot];
        let (mut low, mut high) = (index.first_seq(), index.last_seq() + 1);
        // What was read before a wait is known: the search goes on, and does not depend on what
        // stays in memory meanwhile.
        for &(seq, ts) in times {
            if ts < time {
                low = low.max(seq + 1);
            } else {
                high = high.min(seq);
            }
        }
        // Times do not fall within a stream: below `low` all is earlier, from `high` on nothing is.
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(seq) = self.streams[slot].index.next_live(middle).filter(|&s| s < high) else {
                high = middle;
                continue;
            };
            let ts = self.time_of(slot, seq)?;
            let times = &mut self.streams[slot].times;
            if times.len() == TIMES_MAX {
                times.remove(0);
            }
            times.push((seq, ts));
            if ts < time {
                low = seq + 1;
            } else {
                high = middle;
            }
        }
        let last = self.streams[slot].index.last_seq();
        Ok(self.streams[slot].index.next_live(low).unwrap_or(last + 1))
    }
}
