//! The start set of a last-per-subject consumer: a message of each subject, consumed from the
//! front. It may have millions of members, so that nothing here visits all of them but what stores
//! and loads it, which copies containers.

use roaring::RoaringTreemap;

use super::codec::{Corrupt, Reader, put};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct StartSet {
    seqs: RoaringTreemap,
    left: u64,
    /// The position after the set.
    resume: u64,
}

impl StartSet {
    pub(super) fn new(seqs: RoaringTreemap, resume: u64) -> Self {
        let left = seqs.len();
        StartSet { seqs, left, resume }
    }

    /// The members that are left, ascending.
    #[cfg(test)]
    pub(super) fn members(&self) -> impl Iterator<Item = u64> + '_ {
        self.seqs.iter()
    }

    /// Up to `max` of the members from `from` on, ascending.
    pub(super) fn members_from(&self, from: u64, max: usize) -> impl Iterator<Item = u64> + '_ {
        let mut members = self.seqs.iter();
        members.advance_to(from);
        members.take(max)
    }

    /// The next member that is still there.
    pub(super) fn next(&self) -> Option<u64> {
        self.seqs.min()
    }

    /// The last member.
    pub(super) fn last(&self) -> Option<u64> {
        self.seqs.max()
    }

    /// How many are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The position after the set.
    pub(super) fn resume(&self) -> u64 {
        self.resume
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.seqs.contains(seq)
    }

    /// Steps over everything below `seq`.
    pub(super) fn advance(&mut self, seq: u64) {
        self.left -= self.seqs.remove_range(..seq);
    }

    /// A member left the stream. False if it is none.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let there = self.seqs.remove(seq);
        self.left -= u64::from(there);
        there
    }

    /// Appends the members that are left.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode(&self.seqs, out);
    }
}

/// What counts is which members are left.
impl PartialEq for StartSet {
    fn eq(&self, other: &Self) -> bool {
        self.seqs == other.seqs
    }
}

/// Appends sequences: their length in bytes, then a 64-bit Roaring bitmap in its portable format;
/// without sequences the length alone, 0.
pub(super) fn encode(seqs: &RoaringTreemap, out: &mut Vec<u8>) {
    if seqs.is_empty() {
        return put(out, 0);
    }
    let len = seqs.serialized_size();
    put(out, len as u64);
    out.reserve(len);
    seqs.serialize_into(&mut *out).expect("writing into memory does not fail");
}

/// Reads what [`encode`] wrote; all members are below `end` and none is 0.
pub(super) fn decode(r: &mut Reader<'_>, end: u64) -> Result<RoaringTreemap, Corrupt> {
    let len = usize::try_from(r.take()?).map_err(|_| Corrupt("a start set is too long"))?;
    let Some((bytes, rest)) = r.0.split_at_checked(len) else {
        return Err(Corrupt("a start set ends early"));
    };
    r.0 = rest;
    if bytes.is_empty() {
        return Ok(RoaringTreemap::new());
    }
    let seqs = RoaringTreemap::deserialize_from(bytes)
        .map_err(|_| Corrupt("a start set is not a Roaring bitmap"))?;
    if seqs.contains(0) || seqs.max().is_some_and(|last| last >= end) {
        return Err(Corrupt("a start set does not lie before its consumer's position"));
    }
    Ok(seqs)
}
