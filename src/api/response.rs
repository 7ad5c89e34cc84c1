//! The types of the answers to requests of the API.

use super::types::ResponseType;
use crate::subject::api::{ApiRequest, Refused};

impl ApiRequest<'_> {
    /// The type of the answer. Direct gets and pulls are answered by messages: `None`.
    pub fn response(&self) -> Option<ResponseType> {
        use ApiRequest::*;
        Some(match self {
            Info => ResponseType::AccountInfo,
            StreamCreate(_) => ResponseType::StreamCreate,
            StreamUpdate(_) => ResponseType::StreamUpdate,
            StreamNames => ResponseType::StreamNames,
            StreamList => ResponseType::StreamList,
            StreamInfo(_) => ResponseType::StreamInfo,
            StreamDelete(_) => ResponseType::StreamDelete,
            StreamPurge(_) => ResponseType::StreamPurge,
            MsgGet(_) => ResponseType::StreamMsgGet,
            MsgDelete(_) => ResponseType::StreamMsgDelete,
            ConsumerCreate(_) => ResponseType::ConsumerCreate,
            ConsumerNames(_) => ResponseType::ConsumerNames,
            ConsumerList(_) => ResponseType::ConsumerList,
            ConsumerInfo(_) => ResponseType::ConsumerInfo,
            ConsumerDelete(_) => ResponseType::ConsumerDelete,
            NotSupported { verb, .. } | ClusterOnly { verb, .. } => match verb {
                Refused::StreamSnapshot => ResponseType::StreamSnapshot,
                Refused::StreamRestore => ResponseType::StreamRestore,
                Refused::StreamCancelMove => ResponseType::StreamCancelMove,
                Refused::StreamPeerRemove => ResponseType::StreamRemovePeer,
                Refused::StreamPeerEvacuate => ResponseType::StreamEvacuatePeer,
                Refused::StreamLeaderStepDown => ResponseType::StreamLeaderStepdown,
                Refused::ConsumerPause => ResponseType::ConsumerPause,
                Refused::ConsumerUnpin => ResponseType::ConsumerUnpin,
                Refused::ConsumerReset => ResponseType::ConsumerReset,
                Refused::ConsumerLeaderStepDown => ResponseType::ConsumerLeaderStepdown,
            },
            DirectGet { .. } | ConsumerNext(_) => return None,
        })
    }
}
