//! Bodies of API requests: decoded or refused; a configuration that is decoded survives a round.
#![no_main]

use corelane::api::json;
use corelane::api::types::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = StreamConfigRequest::decode(data, true) {
        let text = json::to_json(&request.config);
        let again = StreamConfigRequest::decode(&text, true).expect("what we write is read");
        assert_eq!(again.config, request.config);
    }
    if let Ok(request) = CreateConsumerRequest::decode(data, true) {
        let text = json::to_json(&request.config);
        let mut body = b"{\"stream_name\":\"S\",\"config\":".to_vec();
        body.extend_from_slice(&text);
        body.push(b'}');
        let again = CreateConsumerRequest::decode(&body, true).expect("what we write is read");
        assert_eq!(again.config, request.config);
    }
    let _ = StreamInfoRequest::decode_info(data, true);
    let _ = StreamsRequest::decode_names(data, true);
    let _ = StreamsRequest::decode_list(data, true);
    let _ = ConsumersRequest::decode_list(data, true);
    let _ = PurgeRequest::decode_purge(data, true);
    let _ = MsgDeleteRequest::decode_delete(data, true);
    let _ = PullRequest::decode(data);
    let _ = MsgGetRequest::decode_direct(None, data);
    if let Ok(request) = MsgGetRequest::decode(data, true) {
        let _ = (request.lookup(), request.direct_lookup());
    }
});
