//! Bodies of API requests: decoded or refused; a configuration that is decoded survives a round.
#![no_main]

use corelane::api::json;
use corelane::api::types::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = StreamConfigRequest::decode(data) {
        let text = json::to_json(&request.config);
        let again = StreamConfigRequest::decode(&text).expect("what we write is read");
        assert_eq!(again.config, request.config);
    }
    if let Ok(request) = CreateConsumerRequest::decode(data) {
        let text = json::to_json(&request.config);
        let mut body = b"{\"stream_name\":\"S\",\"config\":".to_vec();
        body.extend_from_slice(&text);
        body.push(b'}');
        let again = CreateConsumerRequest::decode(&body).expect("what we write is read");
        assert_eq!(again.config, request.config);
    }
    let _ = StreamInfoRequest::decode_info(data);
    let _ = StreamsRequest::decode_names(data);
    let _ = StreamsRequest::decode_list(data);
    let _ = ConsumersRequest::decode_list(data);
    let _ = PurgeRequest::decode_purge(data);
    let _ = MsgDeleteRequest::decode_delete(data);
    let _ = ConsumerResetRequest::decode(data);
    let _ = PullRequest::decode(data);
    let _ = MsgGetRequest::decode_direct(None, data);
    if let Ok(request) = MsgGetRequest::decode(data) {
        let _ = (request.lookup(), request.direct_lookup());
    }
});
