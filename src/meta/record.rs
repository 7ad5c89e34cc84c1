//! The catalogue's records.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `ctlg` |
//! | 4 | type: 1 create, 2 update, 3 delete, 4 forget, 5 next id |
//! | 5 | version: 1 |
//! | 6..8 | 0 |
//! | 8.. | an rkyv archive (little-endian), aligned to 16 when read |
//!
//! A checkpoint of the catalogue is a sequence of records that rebuilds it: next id, creates,
//! deletes not yet forgotten.

use crate::api::types::StreamConfig;
use crate::types::{ShardId, StreamId, WallTime};

use super::catalogue::StreamEntry;

const MAGIC: &[u8; 4] = b"ctlg";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;

/// A change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A stream is there.
    Create {
        /// Whose it is.
        account: String,
        /// The stream.
        entry: StreamEntry,
    },
    /// A stream has another configuration.
    Update {
        /// Whose it is.
        account: String,
        /// The stream.
        id: StreamId,
        /// All of it.
        config: StreamConfig,
    },
    /// A stream is no longer there; its shard must remove what it holds.
    Delete {
        /// The stream.
        id: StreamId,
        /// Where it was.
        shard: ShardId,
    },
    /// The shard has removed a deleted stream.
    Forget {
        /// The stream.
        id: StreamId,
    },
    /// Ids below were used.
    NextId(StreamId),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Not the catalogue's.
    Foreign,
    /// Of a later version.
    Version(u8),
    /// Of an unknown type.
    Type(u8),
    /// Damaged.
    Invalid,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CreateBody {
    account: String,
    id: u64,
    shard: u16,
    created_ns: i64,
    config: StreamConfig,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct UpdateBody {
    account: String,
    id: u64,
    config: StreamConfig,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct IdBody {
    id: u64,
    shard: u16,
}

macro_rules! archive {
    ($out:expr, $body:expr) => {{
        // Serialising into memory fails only when memory is exhausted, which aborts.
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&$body);
        $out.extend_from_slice(&bytes.unwrap_or_default());
    }};
}

macro_rules! unarchive {
    ($type:ty, $bytes:expr) => {
        rkyv::from_bytes::<$type, rkyv::rancor::Error>($bytes).map_err(|_| RecordError::Invalid)
    };
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Record::Create { .. } => 1,
            Record::Update { .. } => 2,
            Record::Delete { .. } => 3,
            Record::Forget { .. } => 4,
            Record::NextId(_) => 5,
        };
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[kind, VERSION, 0, 0]);
        match self {
            Record::Create { account, entry } => archive!(
                out,
                CreateBody {
                    account: account.clone(),
                    id: entry.id.0,
                    shard: entry.shard.0,
                    created_ns: entry.created.0,
                    config: entry.config.clone(),
                }
            ),
            Record::Update { account, id, config } => archive!(
                out,
                UpdateBody { account: account.clone(), id: id.0, config: config.clone() }
            ),
            Record::Delete { id, shard } => archive!(out, IdBody { id: id.0, shard: shard.0 }),
            Record::Forget { id } | Record::NextId(id) => {
                archive!(out, IdBody { id: id.0, shard: 0 });
            }
        }
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(RecordError::Foreign);
        };
        if header[..4] != *MAGIC {
            return Err(RecordError::Foreign);
        }
        if header[5] != VERSION {
            return Err(RecordError::Version(header[5]));
        }
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(body.len());
        aligned.extend_from_slice(body);
        let id_body = || unarchive!(IdBody, &aligned);
        Ok(match header[4] {
            1 => {
                let body = unarchive!(CreateBody, &aligned)?;
                let entry = StreamEntry {
                    id: StreamId(body.id),
                    shard: ShardId(body.shard),
                    created: WallTime(body.created_ns),
                    config: body.config,
                };
                Record::Create { account: body.account, entry }
            }
            2 => {
                let body = unarchive!(UpdateBody, &aligned)?;
                Record::Update { account: body.account, id: StreamId(body.id), config: body.config }
            }
            3 => {
                let body = id_body()?;
                Record::Delete { id: StreamId(body.id), shard: ShardId(body.shard) }
            }
            4 => Record::Forget { id: StreamId(id_body()?.id) },
            5 => Record::NextId(StreamId(id_body()?.id)),
            other => return Err(RecordError::Type(other)),
        })
    }
}
