//! A trie of subject filters, by token.
//!
//! Nodes live in one vector; the literal children of all nodes share one hash table keyed by
//! (parent, token), so a node without siblings costs no table of its own. A node carries the
//! index of what its owner keeps for the filter.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// No node, no value.
pub const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Debug)]
struct Node {
    token: Box<[u8]>,
    parent: u32,
    star: u32,
    full: u32,
    literals: u32,
    value: u32,
}

/// The trie. Values are indices; `NONE` means the filter is only a prefix of others.
#[derive(Debug)]
pub struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
    frontier: Vec<u32>,
    next: Vec<u32>,
}

fn token_hash(hasher: &FixedState, parent: u32, token: &[u8]) -> u64 {
    hasher.hash_one((parent, token))
}

impl Trie {
    /// An empty trie.
    pub fn new(seed: u64) -> Self {
        let root = Node {
            token: Box::default(),
            parent: NONE,
            star: NONE,
            full: NONE,
            literals: 0,
            value: NONE,
        };
        Trie {
            nodes: vec![root],
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            frontier: Vec::new(),
            next: Vec::new(),
        }
    }

    /// The value at `node`.
    pub fn value(&self, node: u32) -> u32 {
        self.nodes[node as usize].value
    }

    /// Sets the value at `node`; with `NONE`, removes the node unless others hang below it.
    pub fn set_value(&mut self, node: u32, value: u32) {
        self.nodes[node as usize].value = value;
        let mut node = node;
        while node != ROOT {
            let n = &self.nodes[node as usize];
            let used = n.value != NONE || n.star != NONE || n.full != NONE || n.literals > 0;
            if used {
                return;
            }
            node = self.unlink(node);
        }
    }

    fn unlink(&mut self, node: u32) -> u32 {
        let parent = self.nodes[node as usize].parent;
        let up = &mut self.nodes[parent as usize];
        if up.star == node {
            up.star = NONE;
        } else if up.full == node {
            up.full = NONE;
        } else {
            up.literals -= 1;
            let hash = token_hash(&self.hasher, parent, &self.nodes[node as usize].token);
            if let Ok(found) = self.index.find_entry(hash, |&id| id == node) {
                found.remove();
            }
        }
        self.nodes[node as usize].token = Box::default();
        self.free.push(node);
        parent
    }

    fn literal(&self, parent: u32, token: &[u8]) -> Option<u32> {
        if self.nodes[parent as usize].literals == 0 {
            return None;
        }
        let hash = token_hash(&self.hasher, parent, token);
        self.index
            .find(hash, |&id| {
                let node = &self.nodes[id as usize];
                node.parent == parent && *node.token == *token
            })
            .copied()
    }

    fn child(&self, parent: u32, token: &[u8]) -> Option<u32> {
        let found = match token {
            b"*" => self.nodes[parent as usize].star,
            b">" => self.nodes[parent as usize].full,
            _ => return self.literal(parent, token),
        };
        (found != NONE).then_some(found)
    }

    /// The node of `filter`, if it is there.
    pub fn find(&self, filter: &[u8]) -> Option<u32> {
        let mut node = ROOT;
        for token in filter.split(|&b| b == b'.') {
            node = self.child(node, token)?;
        }
        Some(node)
    }

    /// The node of `filter`, made if it is not there.
    pub fn insert(&mut self, filter: &[u8]) -> u32 {
        let mut node = ROOT;
        for token in filter.split(|&b| b == b'.') {
            node = match self.child(node, token) {
                Some(child) => child,
                None => self.add_child(node, token),
            };
        }
        node
    }

    fn add_child(&mut self, parent: u32, token: &[u8]) -> u32 {
        let node =
            Node { token: token.into(), parent, star: NONE, full: NONE, literals: 0, value: NONE };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        match token {
            b"*" => self.nodes[parent as usize].star = id,
            b">" => self.nodes[parent as usize].full = id,
            _ => {
                self.nodes[parent as usize].literals += 1;
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.index.insert_unique(token_hash(hasher, parent, token), id, |&id| {
                    let node = &nodes[id as usize];
                    token_hash(hasher, node.parent, &node.token)
                });
            }
        }
        id
    }

    /// Writes the filter that `node` stands for.
    pub fn filter_into(&self, node: u32, filter: &mut Vec<u8>) {
        filter.clear();
        let up = |at: u32| (at != ROOT).then(|| self.nodes[at as usize].parent);
        let path = || std::iter::successors(Some(node), |&at| up(at)).filter(|&at| at != ROOT);
        let size = path().map(|at| self.nodes[at as usize].token.len() + 1).sum::<usize>();
        filter.resize(size.saturating_sub(1), b'.');
        let mut end = filter.len();
        for at in path() {
            let token = &self.nodes[at as usize].token;
            filter[end - token.len()..end].copy_from_slice(token);
            end = (end - token.len()).saturating_sub(1);
        }
    }

    /// Calls `visit` with the value of every filter that matches the literal `subject`, which has
    /// no empty token. Returns whether any other last token in its place would match the same
    /// filters.
    pub fn walk(&mut self, subject: &[u8], mut visit: impl FnMut(u32)) -> bool {
        let mut frontier = std::mem::take(&mut self.frontier);
        let mut next = std::mem::take(&mut self.next);
        frontier.clear();
        frontier.push(ROOT);
        let mut last_is_free = true;
        let mut rest = Some(subject);
        while let Some(tokens) = rest {
            let (token, after) = match memchr::memchr(b'.', tokens) {
                Some(dot) => (&tokens[..dot], Some(&tokens[dot + 1..])),
                None => (tokens, None),
            };
            if after.is_none() {
                last_is_free = frontier.iter().all(|&n| self.nodes[n as usize].literals == 0);
            }
            next.clear();
            for &id in &frontier {
                let node = &self.nodes[id as usize];
                if node.full != NONE {
                    visit(self.nodes[node.full as usize].value);
                }
                let literal = self.literal(id, token);
                let star = (node.star != NONE).then_some(node.star);
                // The order of NATS: literals come first where the subject ends, wildcards before.
                let both = if after.is_none() { [literal, star] } else { [star, literal] };
                next.extend(both.into_iter().flatten());
            }
            std::mem::swap(&mut frontier, &mut next);
            if frontier.is_empty() {
                break;
            }
            rest = after;
        }
        for &id in &frontier {
            let value = self.nodes[id as usize].value;
            if value != NONE {
                visit(value);
            }
        }
        self.frontier = frontier;
        self.next = next;
        last_is_free
    }

    /// Nodes in use, the root included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject;

    fn found(trie: &mut Trie, subject: &[u8]) -> Vec<u32> {
        let mut values = Vec::new();
        trie.walk(subject, |value| values.push(value));
        values.sort_unstable();
        values
    }

    #[test]
    fn walk_equals_matching_one_by_one() {
        let filters = [
            "a", "a.b", "a.*", "a.>", ">", "*", "*.b", "*.*", "*.>", "a.b.c", "a.*.c", "a.b.>",
            "b.*.*", "foo*", "a.*.>",
        ];
        let mut trie = Trie::new(1);
        for (i, filter) in filters.iter().enumerate() {
            let node = trie.insert(filter.as_bytes());
            trie.set_value(node, i as u32);
            let mut name = Vec::new();
            trie.filter_into(node, &mut name);
            assert_eq!(name, filter.as_bytes());
        }
        for round in 0..2 {
            for s in ["a", "b", "a.b", "a.c", "b.b", "a.b.c", "a.x.c", "b.x.y", "foo*", "a.b.c.d"] {
                let want: Vec<u32> = (round * filters.len() / 2..filters.len())
                    .filter(|&i| subject::matches(filters[i].as_bytes(), s.as_bytes()))
                    .map(|i| i as u32)
                    .collect();
                assert_eq!(found(&mut trie, s.as_bytes()), want, "{s}");
            }
            let half = filters.len() / 2;
            for filter in &filters[round * half..if round == 0 { half } else { filters.len() }] {
                let node = trie.find(filter.as_bytes()).unwrap();
                trie.set_value(node, NONE);
            }
        }
        assert_eq!(trie.len(), 1);
        assert!(trie.index.is_empty());
    }

    #[test]
    fn the_last_token_is_free_while_no_literal_stands_there() {
        let mut trie = Trie::new(1);
        let node = trie.insert(b"in.x.*");
        trie.set_value(node, 0);
        assert!(trie.walk(b"in.x.1", |_| {}));
        let node = trie.insert(b"in.*.7");
        trie.set_value(node, 1);
        assert!(!trie.walk(b"in.x.1", |_| {}));
        trie.set_value(node, NONE);
        assert!(trie.walk(b"in.x.1", |_| {}));
    }
}
