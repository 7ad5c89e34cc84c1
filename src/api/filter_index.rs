//! Subject filters as a trie of tokens: finds overlaps without comparing with every filter.

use std::collections::BTreeMap;

use super::names::FILTER_BYTES_MAX;
use crate::subject::tokens;

/// Subject filters and whose they are. Filters in it do not overlap, so each ends at a node of its
/// own.
#[derive(Debug)]
pub struct FilterIndex<T> {
    root: Node<T>,
}

impl<T> Default for FilterIndex<T> {
    fn default() -> Self {
        FilterIndex { root: Node::default() }
    }
}

#[derive(Debug)]
struct Node<T> {
    /// By token; `*` and `>` are tokens like others here.
    children: BTreeMap<Box<[u8]>, Node<T>>,
    owner: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Node { children: BTreeMap::new(), owner: None }
    }
}

impl<T: Copy + PartialEq> FilterIndex<T> {
    /// Adds a filter. One longer than [`FILTER_BYTES_MAX`] is not valid, and ignored everywhere.
    pub fn insert(&mut self, filter: &[u8], owner: T) {
        if filter.len() > FILTER_BYTES_MAX {
            return;
        }
        let mut node = &mut self.root;
        for token in tokens(filter) {
            node = node.children.entry(token.into()).or_default();
        }
        node.owner = Some(owner);
    }

    /// Removes a filter.
    pub fn remove(&mut self, filter: &[u8], owner: T) {
        if filter.len() > FILTER_BYTES_MAX {
            return;
        }
        let path: Vec<&[u8]> = tokens(filter).collect();
        remove(&mut self.root, &path, &owner);
    }

    /// Calls `found` with the owner of each filter that overlaps `filter` until it says false.
    pub fn overlapping(&self, filter: &[u8], mut found: impl FnMut(T) -> bool) {
        if filter.len() > FILTER_BYTES_MAX {
            return;
        }
        let path: Vec<&[u8]> = tokens(filter).collect();
        overlapping(&self.root, &path, &mut found);
    }

    /// True if `filter` overlaps a filter of another owner than `except`.
    pub fn overlaps(&self, filter: &[u8], except: Option<T>) -> bool {
        let mut overlaps = false;
        self.overlapping(filter, |owner| {
            overlaps = Some(owner) != except;
            !overlaps
        });
        overlaps
    }
}

/// True if the node is of no use any more.
fn remove<T: PartialEq>(node: &mut Node<T>, path: &[&[u8]], owner: &T) -> bool {
    match path.split_first() {
        None => {
            if node.owner.as_ref() == Some(owner) {
                node.owner = None;
            }
        }
        Some((token, rest)) => {
            let empty = node.children.get_mut(*token).is_some_and(|c| remove(c, rest, owner));
            if empty {
                node.children.remove(*token);
            }
        }
    }
    node.owner.is_none() && node.children.is_empty()
}

/// False if `found` has had enough.
fn overlapping<T: Copy>(node: &Node<T>, path: &[&[u8]], found: &mut impl FnMut(T) -> bool) -> bool {
    let Some((&token, rest)) = path.split_first() else {
        return node.owner.is_none_or(found);
    };
    if token == b">" {
        return all_below(node, found);
    }
    if let Some(full) = node.children.get(&b">"[..])
        && !full.owner.is_none_or(&mut *found)
    {
        return false;
    }
    if token == b"*" {
        let single = node.children.iter().filter(|(token, _)| ***token != *b">");
        for (_, child) in single {
            if !overlapping(child, rest, found) {
                return false;
            }
        }
        return true;
    }
    for next in [token, b"*"] {
        if let Some(child) = node.children.get(next)
            && !overlapping(child, rest, found)
        {
            return false;
        }
    }
    true
}

fn all_below<T: Copy>(node: &Node<T>, found: &mut impl FnMut(T) -> bool) -> bool {
    node.children
        .values()
        .all(|child| child.owner.is_none_or(&mut *found) && all_below(child, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small seeded generator, so that the test needs no dependency.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    fn random_filter(state: &mut u64) -> String {
        let len = next(state) % 3 + 1;
        let mut parts: Vec<&str> = Vec::new();
        for i in 0..len {
            let last = i + 1 == len;
            parts.push(match next(state) % 7 {
                0 => "*",
                1 if last => ">",
                2 | 1 => "a",
                3 => "b",
                4 => "c",
                5 => "d",
                _ => "e",
            });
        }
        parts.join(".")
    }

    #[test]
    fn agrees_with_comparing_all() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut index = FilterIndex::default();
        let mut filters: Vec<(String, u32)> = Vec::new();
        let (mut added, mut refused, mut removed) = (0, 0, 0);
        for i in 0..20_000 {
            if filters.len() > 12 || next(&mut state).is_multiple_of(4) && !filters.is_empty() {
                let at = next(&mut state) as usize % filters.len();
                let (filter, id) = filters.swap_remove(at);
                index.remove(filter.as_bytes(), id);
                removed += 1;
                continue;
            }
            let filter = random_filter(&mut state);
            let overlaps = |(other, _): &&(String, u32)| {
                crate::subject::overlaps(filter.as_bytes(), other.as_bytes())
            };
            let mut want: Vec<u32> = filters.iter().filter(overlaps).map(|f| f.1).collect();
            let mut got = Vec::new();
            index.overlapping(filter.as_bytes(), |id| {
                got.push(id);
                true
            });
            want.sort();
            got.sort();
            assert_eq!(got, want, "{filter} among {filters:?}");
            assert_eq!(index.overlaps(filter.as_bytes(), None), !want.is_empty());
            if want.is_empty() {
                index.insert(filter.as_bytes(), i);
                filters.push((filter, i));
                added += 1;
            } else {
                if let [only] = want[..] {
                    assert!(!index.overlaps(filter.as_bytes(), Some(only)));
                }
                refused += 1;
            }
        }
        assert!(added > 1_000 && refused > 1_000 && removed > 1_000);
        for (filter, id) in filters {
            index.remove(filter.as_bytes(), id);
        }
        assert!(index.root.children.is_empty());
    }
}
