//! Metadata of streams and consumers, and the three keys in it that are the server's.

use std::collections::BTreeMap;

use super::{API_LEVEL, NATS_VERSION};

/// Most bytes of keys and values, the stored level included.
pub const BYTES_MAX: usize = 128 * 1024;

const LEVEL_REQUIRED: &str = "_nats.req.level";
const LEVEL: &str = "_nats.level";
const VERSION: &str = "_nats.ver";

/// Bytes of keys and values.
pub fn size(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Replaces what a client wrote under the server's keys by the level that the asset requires: what
/// is stored and listed.
pub fn store_level(metadata: &mut BTreeMap<String, String>, level: u32) {
    metadata.remove(LEVEL);
    metadata.remove(VERSION);
    metadata.insert(LEVEL_REQUIRED.to_owned(), level.to_string());
}

/// Adds the server's level and version: what create, update and info answer.
pub fn show_server(metadata: &mut BTreeMap<String, String>) {
    metadata.insert(LEVEL.to_owned(), API_LEVEL.to_string());
    metadata.insert(VERSION.to_owned(), NATS_VERSION.to_owned());
}
