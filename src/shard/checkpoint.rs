//! Checkpoints.

use corelane_storage::device::Blocking;
use corelane_storage::recovery::Recovery;
use corelane_storage::superblock::CheckpointRef;

use super::recover::Replay;
use crate::types::{ConsumerId, StreamId};

#[derive(Default)]
pub struct Checkpointer {}

impl Checkpointer {
    pub fn durable(&mut self, _id: u64) {}
    pub fn catalogue_changed(&mut self) {}
    pub fn stream_forgotten(&mut self, _stream: StreamId) {}
    pub fn consumer_forgotten(&mut self, _stream: StreamId, _consumer: ConsumerId) {}
}

impl Replay<'_> {
    pub(super) fn load<D: Blocking>(
        &mut self,
        _dev: &mut D,
        _recovery: &mut Recovery,
        _checkpoint: CheckpointRef,
    ) -> Result<(), String> {
        Err("no checkpoints yet".into())
    }
}
