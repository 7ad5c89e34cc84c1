//! The subjects in the order of their names, for wildcard filters and listings.
//!
//! A sorted list of ids cut into leaves costs 4 to 8 bytes a subject and gives listings their order
//! for free. A wildcard filter walks it by seeking: whatever cannot match is jumped over by its
//! prefix, since the names below one prefix of whole tokens are neighbours. A cursor is a name, so
//! it survives any change of the table between two steps.

use super::subjects::SubjectTable;
use super::{SubjectEntry, SubjectId};

const LEAF_MAX: usize = 512;
const LEAF_MERGE: usize = 192;
/// Neighbours looked at before a seek searches.
const LINEAR: usize = 8;

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    leaf: usize,
    at: usize,
}

/// Ids sorted by name. The names are asked from the table's pages.
#[derive(Debug, Default)]
pub(super) struct NameOrder {
    leaves: Vec<Vec<u32>>,
}

impl NameOrder {
    /// Builds the list from ids in the order of their names.
    pub fn from_sorted(ids: &[u32]) -> NameOrder {
        NameOrder { leaves: ids.chunks(LEAF_MAX / 4 * 3).map(<[u32]>::to_vec).collect() }
    }

    /// The first place whose name is not below `key`.
    pub fn seek<'a>(&self, key: &[u8], name: impl Fn(u32) -> &'a [u8]) -> Place {
        let leaf = self.leaves.partition_point(|leaf| name(leaf[0]) <= key).saturating_sub(1);
        let at = self.leaves.get(leaf).map_or(0, |ids| ids.partition_point(|&id| name(id) < key));
        self.normal(Place { leaf, at })
    }

    fn normal(&self, place: Place) -> Place {
        match self.leaves.get(place.leaf) {
            Some(ids) if place.at >= ids.len() => Place { leaf: place.leaf + 1, at: 0 },
            _ => place,
        }
    }

    pub fn get(&self, place: Place) -> Option<u32> {
        self.leaves.get(place.leaf)?.get(place.at).copied()
    }

    pub fn next(&self, place: Place) -> Place {
        self.normal(Place { leaf: place.leaf, at: place.at + 1 })
    }

    pub fn insert<'a>(&mut self, id: u32, name: impl Fn(u32) -> &'a [u8]) {
        let key = name(id);
        let leaf = self.leaves.partition_point(|ids| name(ids[0]) <= key).saturating_sub(1);
        let is_last = leaf + 1 >= self.leaves.len();
        let Some(ids) = self.leaves.get_mut(leaf) else {
            self.leaves.push(vec![id]);
            return;
        };
        let at = ids.partition_point(|&other| name(other) < key);
        if ids.len() < LEAF_MAX {
            ids.insert(at, id);
        } else if is_last && at == ids.len() {
            self.leaves.push(vec![id]);
        } else {
            let mut upper = ids.split_off(LEAF_MAX / 2);
            ids.shrink_to(LEAF_MAX * 3 / 4);
            match at.checked_sub(LEAF_MAX / 2) {
                Some(at) => upper.insert(at, id),
                None => ids.insert(at, id),
            }
            self.leaves.insert(leaf + 1, upper);
        }
    }

    /// Takes out `id`, whose name must still be known.
    pub fn remove<'a>(&mut self, id: u32, name: impl Fn(u32) -> &'a [u8]) {
        let place = self.seek(name(id), &name);
        if self.get(place) != Some(id) {
            debug_assert!(false, "a subject in use is in the order");
            return;
        }
        self.leaves[place.leaf].remove(place.at);
        let len = self.leaves[place.leaf].len();
        if len == 0 {
            self.leaves.remove(place.leaf);
        } else if len < LEAF_MERGE / 2
            && self.leaves.get(place.leaf + 1).is_some_and(|next| next.len() < LEAF_MERGE)
        {
            let next = self.leaves.remove(place.leaf + 1);
            self.leaves[place.leaf].extend(next);
        }
    }

    pub fn resident_bytes(&self) -> usize {
        self.leaves.capacity() * 24 + self.leaves.iter().map(|l| l.capacity() * 4).sum::<usize>()
    }
}

/// Where a walk over the subjects that match a filter goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectCursor {
    /// Names from here on were not visited.
    from: Vec<u8>,
    done: bool,
}

impl SubjectCursor {
    /// A walk from the first subject.
    pub fn new() -> SubjectCursor {
        SubjectCursor::default()
    }

    /// True when all was visited.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// True if a subject of this name would have been visited already.
    pub(super) fn has_passed(&self, name: &[u8]) -> bool {
        self.done || name < self.from.as_slice()
    }

    fn finish(&mut self) -> bool {
        self.done = true;
        self.from.clear();
        true
    }
}

enum Verdict {
    Match,
    Next,
    Seek,
    End,
}

/// Judges `name` against `filter`. On `Seek`, `key` is the lowest name above it that may match.
fn judge(filter: &[u8], name: &[u8], key: &mut Vec<u8>) -> Verdict {
    let mut wanted = filter.split(|&b| b == b'.').peekable();
    let mut start = 0;
    while let Some(want) = wanted.next() {
        if want == b">" {
            return Verdict::Match;
        }
        let rest = &name[start..];
        let end = rest.iter().position(|&b| b == b'.').map_or(name.len(), |at| start + at);
        let is_last = wanted.peek().is_none();
        if want != b"*" && want != &name[start..end] {
            return towards(name, start, want, is_last, key);
        }
        match (is_last, end == name.len()) {
            (true, true) => return Verdict::Match,
            (false, true) => return Verdict::Next,
            // A literal's last token: nothing behind it matches. A `*`: all of this token's subtree
            // is too long.
            (true, false) if want == b"*" => return past(&name[..end], key),
            (true, false) => return towards(name, start, want, is_last, key),
            (false, false) => start = end + 1,
        }
    }
    Verdict::Next
}

/// The token at `start` should have been `want`.
fn towards(name: &[u8], start: usize, want: &[u8], is_last: bool, key: &mut Vec<u8>) -> Verdict {
    key.clear();
    key.extend_from_slice(&name[..start]);
    key.extend_from_slice(want);
    if !is_last {
        key.push(b'.');
    }
    if name < key.as_slice() {
        return Verdict::Seek;
    }
    if start == 0 { Verdict::End } else { past(&name[..start - 1], key) }
}

/// Nothing below the whole-token prefix `prefix` is left.
fn past(prefix: &[u8], key: &mut Vec<u8>) -> Verdict {
    key.clear();
    key.extend_from_slice(prefix);
    key.push(b'.' + 1);
    Verdict::Seek
}

/// The bytes that every match of a filter with wildcards starts with.
fn literal_prefix(filter: &[u8]) -> &[u8] {
    let mut end = 0;
    for token in filter.split(|&b| b == b'.') {
        if token == b"*" || token == b">" {
            break;
        }
        end += token.len() + 1;
    }
    &filter[..end.min(filter.len())]
}

impl SubjectTable {
    /// Visits the subjects that match `filter`, in the order of their names, taking one from
    /// `budget` for each name looked at. Answers true when all were visited; else `cursor` tells
    /// where to go on.
    pub fn for_each_match(
        &self,
        filter: &[u8],
        cursor: &mut SubjectCursor,
        budget: &mut u32,
        mut visit: impl FnMut(SubjectId, &SubjectEntry),
    ) -> bool {
        if cursor.done {
            return true;
        }
        if !super::filter::has_wildcards(filter) {
            *budget = budget.saturating_sub(1);
            if let Some((id, entry)) = self.lookup(filter).and_then(|id| Some((id, self.get(id)?)))
            {
                visit(id, entry);
            }
            return cursor.finish();
        }
        let prefix = literal_prefix(filter);
        let name = |id: u32| self.name_of(id);
        let mut place = self.order.seek(prefix.max(&cursor.from), name);
        let mut key = Vec::new();
        while let Some(id) = self.order.get(place) {
            let current = name(id);
            if !current.starts_with(prefix) {
                break;
            }
            if *budget == 0 {
                cursor.from.clear();
                cursor.from.extend_from_slice(current);
                return false;
            }
            *budget -= 1;
            match judge(filter, current, &mut key) {
                Verdict::Match => {
                    if let Some(entry) = self.get(SubjectId(id)) {
                        visit(SubjectId(id), entry);
                    }
                    place = self.order.next(place);
                }
                Verdict::Next => place = self.order.next(place),
                Verdict::Seek => place = self.skip_to(place, &key),
                Verdict::End => break,
            }
        }
        cursor.finish()
    }

    /// The first place at or above `key`, which lies above `place`.
    fn skip_to(&self, mut place: super::order::Place, key: &[u8]) -> super::order::Place {
        for _ in 0..LINEAR {
            place = self.order.next(place);
            match self.order.get(place) {
                Some(id) if self.name_of(id) < key => {}
                _ => return place,
            }
        }
        self.order.seek(key, |id| self.name_of(id))
    }
}
