//! Every JetStream error code with its status and text, in the order of the codes.
//!
//! The text may hold one or two `{placeholder}`s, filled in by [`ErrorKind::with`].

use super::error::ErrorKind;

macro_rules! errors {
    ($($err_code:literal $code:literal $name:ident $text:expr;)*) => {
        $(
            #[doc = $text]
            pub const $name: ErrorKind =
                ErrorKind { err_code: $err_code, code: $code, text: $text };
        )*

        /// All of them, by `err_code`.
        pub static ALL: &[ErrorKind] = &[$($name),*];
    };
}

errors! {
    10002 400 ACCOUNT_RESOURCES_EXCEEDED "resource limits exceeded for account";
    10003 400 BAD_REQUEST "bad request";
    10004 503 INCOMPLETE_RESULTS "incomplete results";
    10005 400 CLUSTER_NO_PEERS "{err}";
    10006 500 JETSTREAM_NOT_IN_CLUSTERED_MODE "JetStream not in clustered mode";
    10007 500 JETSTREAM_CLUSTER_NOT_ASSIGNED_THIS_SERVER
        "JetStream cluster not assigned to this server";
    10008 503 JETSTREAM_SYSTEM_TEMPORARILY_UNAVAILABLE "JetStream system temporarily unavailable";
    10009 500 JETSTREAM_CLUSTER_CAN_NOT_HANDLE_REQUEST "JetStream cluster can not handle request";
    10010 503 CLUSTER_REQUIRED "JetStream clustering support required";
    10011 400 TAGS_PLACEMENT_NOT_SUPPORTED_OPERATION "tags placement not supported for operation";
    10012 500 CONSUMER_CREATE "{err}";
    10013 400 CONSUMER_NAME_EXIST "consumer name already in use";
    10014 404 CONSUMER_NOT_FOUND "consumer not found";
    10015 400 DELIVER_SUBJECT_NOT_VALID "deliver subject not valid";
    10016 400 CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT
        "consumer expected to be durable but no durable name set in subject";
    10017 400 CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT
        "consumer name in subject does not match durable name in request";
    10018 400 CONSUMER_DURABLE_NAME_NOT_SET
        "consumer expected to be durable but a durable name was not set";
    10019 400 CONSUMER_EXPECTED_EPHEMERAL_BUT_DETECTED_DURABLE_NAME
        "consumer expected to be ephemeral but detected a durable name set in subject";
    10020 400 CONSUMER_EPHEMERAL_WITH_DURABLE_NAME
        "consumer expected to be ephemeral but a durable name was set in request";
    10021 400 STREAM_EXTERNAL_API_PREFIX_MUST_NOT_OVERLAP
        "stream external api prefix {prefix} must not overlap with {subject}";
    10022 400 STREAM_EXTERNAL_DELIVERY_PREFIX_OVERLAPS_WITH_STREAM
        "stream external delivery prefix {prefix} overlaps with stream subject {subject}";
    10023 503 INSUFFICIENT_RESOURCES "insufficient resources";
    10024 400 STREAM_EXTERNAL_DELIVERY_PREFIX_MUST_NOT_CONTAIN
        "stream external delivery prefix {prefix} must not contain wildcards";
    10025 400 INVALID_JSON "invalid JSON: {err}";
    10026 400 MAXIMUM_CONSUMERS_LIMIT "maximum consumers limit reached";
    10027 400 MAXIMUM_STREAMS_LIMIT "maximum number of streams reached";
    10028 500 MEMORY_RESOURCES_EXCEEDED "insufficient memory resources available";
    10029 500 MIRROR_CONSUMER_SETUP_FAILED "{err}";
    10030 400 STREAM_MIRROR_MUST_HAVE_MAX_MESSAGE_SIZE
        "stream mirror must have max message size >= source";
    10031 400 STREAM_MIRRORS_CAN_NOT_CONTAIN_OTHER_SOURCES
        "stream mirrors can not also contain other sources";
    10032 400 STREAM_MIRRORS_CAN_NOT_HAVE_BOTH_START
        "stream mirrors can not have both start seq and start time configured";
    10033 400 STREAM_MIRRORS_CAN_NOT_CONTAIN_FILTERED_SUBJECTS
        "stream mirrors can not contain filtered subjects";
    10034 400 STREAM_MIRRORS_CAN_NOT_CONTAIN_SUBJECTS "stream mirrors can not contain subjects";
    10035 503 ACCOUNT_NOT_FOUND "account not found";
    10036 503 NOT_CURRENTLY_SUPPORTED_IN_CLUSTERED_MODE
        "not currently supported in clustered mode";
    10037 404 NO_MESSAGE_FOUND "no message found";
    10038 400 NOT_EMPTY_REQUEST "expected an empty request payload";
    10039 503 NOT_ENABLED_FOR_ACCOUNT "JetStream not enabled for account";
    10040 400 PEER_NOT_MEMBER "peer not a member";
    10041 500 RAFT_GENERAL "{err}";
    10042 500 JETSTREAM_UNABLE_SUBSCRIBE_RESTORE_SNAPSHOT
        "JetStream unable to subscribe to restore snapshot {subject}: {err}";
    10043 400 SEQUENCE_NOT_FOUND "sequence {seq} not found";
    10044 400 SERVER_NOT_MEMBER_CLUSTER "server is not a member of the cluster";
    10045 500 SOURCE_CONSUMER_SETUP_FAILED "{err}";
    10046 400 STREAM_SOURCE_MUST_HAVE_MAX_MESSAGE_SIZE
        "stream source must have max message size >= target";
    10047 500 STORAGE_RESOURCES_EXCEEDED "insufficient storage resources available";
    10048 500 STREAM_ASSIGNMENT "{err}";
    10049 500 STREAM_CREATE "{err}";
    10050 500 STREAM_DELETE "{err}";
    10051 500 STREAM_GENERAL "{err}";
    10052 500 STREAM_INVALID_CONFIG "{err}";
    10053 500 STREAM_LIMITS "{err}";
    10054 400 STREAM_MESSAGE_EXCEEDS_MAXIMUM "message size exceeds maximum allowed";
    10055 400 STREAM_MIRROR_CONFIGURATION_CAN_NOT_UPDATED
        "stream mirror configuration can not be updated";
    10056 400 STREAM_MISMATCH "stream name in subject does not match request";
    10057 500 STREAM_MSG_DELETE_FAILED "{err}";
    10058 400 STREAM_NAME_EXIST "stream name already in use with a different configuration";
    10059 404 STREAM_NOT_FOUND "stream not found";
    10060 400 STREAM_NOT_MATCH "expected stream does not match";
    10061 400 REPLICAS_CONFIGURATION_CAN_NOT_UPDATED "Replicas configuration can not be updated";
    10062 500 RESTORE_FAILED "restore failed: {err}";
    10063 503 STREAM_SEQUENCE_NOT_MATCH "expected stream sequence does not match";
    10064 500 SNAPSHOT_FAILED "snapshot failed: {err}";
    10065 400 STREAM_SUBJECT_OVERLAP "subjects overlap with an existing stream";
    10066 500 TEMPLATE_CREATE "{err}";
    10067 500 TEMPLATE_DELETE "{err}";
    10068 404 TEMPLATE_NOT_FOUND "template not found";
    10069 500 STREAM_UPDATE "{err}";
    10070 400 WRONG_LAST_MSG_ID "wrong last msg ID: {id}";
    10071 400 WRONG_LAST_SEQUENCE "wrong last sequence: {seq}";
    10072 500 JETSTREAM_UNABLE_OPEN_TEMP_STORAGE_RESTORE
        "JetStream unable to open temp storage for restore";
    10073 400 TEMPLATE_NAME_IN_SUBJECT_DOES_NOT_MATCH
        "template name in subject does not match request";
    10074 500 STREAM_REPLICAS_NOT_SUPPORTED "replicas > 1 not supported in non-clustered mode";
    10075 503 PEER_REMAP_FAILED "peer remap failed";
    10076 503 JETSTREAM_NOT_ENABLED "JetStream not enabled";
    10077 503 STREAM_STORE_FAILED "{err}";
    10078 400 CONSUMER_CONFIG_REQUIRED "consumer config required";
    10079 400 CONSUMER_DELIVER_TO_WILDCARDS "consumer deliver subject has wildcards";
    10080 400 CONSUMER_PUSH_MAX_WAITING "consumer in push mode can not set max waiting";
    10081 400 CONSUMER_DELIVER_CYCLE "consumer deliver subject forms a cycle";
    10082 400 CONSUMER_MAX_PENDING_ACK_POLICY "consumer requires ack policy for max ack pending";
    10083 400 CONSUMER_SMALL_HEARTBEAT "consumer idle heartbeat needs to be >= 100ms";
    10084 400 CONSUMER_IN_PULL_MODE_REQUIRES_EXPLICIT_ACK
        "consumer in pull mode requires explicit ack policy on workqueue stream";
    10085 400 CONSUMER_IN_PULL_MODE_REQUIRES_DURABLE_NAME
        "consumer in pull mode requires a durable name";
    10086 400 CONSUMER_PULL_WITH_RATE_LIMIT "consumer in pull mode can not have rate limit set";
    10087 400 CONSUMER_MAX_WAITING_NEGATIVE "consumer max waiting needs to be positive";
    10088 400 CONSUMER_HB_REQUIRES_PUSH "consumer idle heartbeat requires a push based consumer";
    10089 400 CONSUMER_FC_REQUIRES_PUSH "consumer flow control requires a push based consumer";
    10090 400 CONSUMER_DIRECT_REQUIRES_PUSH_BASED_CONSUMER
        "consumer direct requires a push based consumer";
    10091 400 CONSUMER_DIRECT_REQUIRES_EPHEMERAL_CONSUMER
        "consumer direct requires an ephemeral consumer";
    10092 400 CONSUMER_DIRECT_ON_MAPPED_CONSUMER "consumer direct on a mapped consumer";
    10093 400 CONSUMER_FILTER_SUBJECT_NOT_VALID_SUBSET_INTEREST
        "consumer filter subject is not a valid subset of the interest subjects";
    10094 400 CONSUMER_INVALID_POLICY "{err}";
    10095 400 CONSUMER_INVALID_SAMPLING "failed to parse consumer sampling configuration: {err}";
    10096 500 STREAM_NOT_VALID "stream not valid";
    10097 400 STREAM_HEADER_EXCEEDS_MAXIMUM "header size exceeds maximum allowed of 64k";
    10098 400 WORKQUEUE_STREAM_REQUIRES_EXPLICIT_ACK "workqueue stream requires explicit ack";
    10099 400 MULTIPLE_NON_FILTERED_CONSUMERS_NOT_ALLOWED_ON
        "multiple non-filtered consumers not allowed on workqueue stream";
    10100 400 FILTERED_CONSUMER_NOT_UNIQUE_ON_WORKQUEUE_STREAM
        "filtered consumer not unique on workqueue stream";
    10101 400 CONSUMER_MUST_DELIVER_ALL_ON_WORKQUEUE_STREAM
        "consumer must be deliver all on workqueue stream";
    10102 400 CONSUMER_NAME_TOO_LONG "consumer name is too long, maximum allowed is {max}";
    10103 400 CONSUMER_BAD_DURABLE_NAME "durable name can not contain '.', '*', '>'";
    10104 500 ERROR_CREATING_STORE_CONSUMER "error creating store for consumer: {err}";
    10105 400 CONSUMER_ALREADY_EXISTS_STILL_ACTIVE "consumer already exists and is still active";
    10106 400 CONSUMER_REPLACEMENT_DURABLE_CONFIG_NOT_SAME
        "consumer replacement durable config not the same";
    10107 400 CONSUMER_DESCRIPTION_TOO_LONG
        "consumer description is too long, maximum allowed is {max}";
    10108 400 CONSUMER_FC_NEEDS_HEARTBEATS "consumer with flow control also needs heartbeats";
    10109 400 STREAM_SEALED "invalid operation on sealed stream";
    10110 500 STREAM_PURGE_NOT_PERMITTED "{err}";
    10111 500 STREAM_ROLLUP_FAILED "{err}";
    10112 400 CONSUMER_INVALID_DELIVER_SUBJECT "invalid push consumer deliver subject";
    10113 400 STREAM_MAX_BYTES_REQUIRED "account requires a stream config to have max bytes set";
    10114 400 CONSUMER_MAX_REQUEST_BATCH_NEGATIVE "consumer max request batch needs to be > 0";
    10115 400 CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL
        "consumer max request expires needs to be >= 1ms";
    10116 400 CONSUMER_MAX_DELIVER_BACKOFF
        "max deliver is required to be > length of backoff values";
    10117 500 SUBJECT_DETAILS_WOULD_EXCEED_MAXIMUM_ALLOWED
        "subject details would exceed maximum allowed";
    10118 500 STREAM_OFFLINE "stream is offline";
    10119 500 CONSUMER_OFFLINE "consumer is offline";
    10120 400 NO_JETSTREAM_DEFAULT_OR_APPLICABLE_TIERED_LIMIT
        "no JetStream default or applicable tiered limit present";
    10121 400 CONSUMER_MAX_ACK_PENDING_EXCEEDS
        "consumer max ack pending exceeds system limit of {limit}";
    10122 400 STREAM_MAX_BYTES_EXCEEDS_ACCOUNT
        "stream max bytes exceeds account limit max stream bytes";
    10123 400 CAN_NOT_MOVE_SCALE_STREAM_IN_SINGLE
        "can not move and scale a stream in a single update";
    10124 400 STREAM_MOVE_ALREADY_IN_PROGRESS "stream move already in progress";
    10125 400 CONSUMER_MAX_REQUEST_BATCH_EXCEEDED
        "consumer max request batch exceeds server limit of {limit}";
    10126 400 CONSUMER_REPLICAS_EXCEED_STREAM
        "consumer config replica count exceeds parent stream";
    10127 400 CONSUMER_NAME_PATH_SEPARATORS "Consumer name can not contain path separators";
    10128 400 STREAM_NAME_PATH_SEPARATORS "Stream name can not contain path separators";
    10129 400 STREAM_RECONFIGURATION_NOT_IN_PROGRESS "stream reconfiguration not in progress";
    10130 400 STREAM_NAME_ALREADY_IN_USE_CANNOT_RESTORE
        "stream name already in use, cannot restore";
    10131 400 CONSUMER_CREATE_FILTER_MISMATCH
        "Consumer create request did not match filtered subject from create subject";
    10132 400 CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH
        "Consumer Durable and Name have to be equal if both are provided";
    10133 400 REPLICAS_CANNOT_BE_NEGATIVE "replicas count cannot be negative";
    10134 400 CONSUMER_CONFIG_REPLICAS_MUST_MATCH_INTEREST_RETENTION
        "consumer config replicas must match interest retention stream's replicas";
    10135 400 CONSUMER_METADATA_LENGTH "consumer metadata exceeds maximum size of {limit}";
    10136 400 CONSUMER_DUPLICATE_FILTER_SUBJECTS
        "consumer cannot have both FilterSubject and FilterSubjects specified";
    10137 400 CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED
        "consumer with multiple subject filters cannot use subject based API";
    10138 400 CONSUMER_OVERLAPPING_SUBJECT_FILTERS "consumer subject filters cannot overlap";
    10139 400 CONSUMER_EMPTY_FILTER "consumer filter in FilterSubjects cannot be empty";
    10140 400 DUPLICATE_SOURCE_CONFIGURATION_DETECTED "duplicate source configuration detected";
    10141 400 SOURCED_STREAM_NAME_INVALID "sourced stream name is invalid";
    10142 400 MIRRORED_STREAM_NAME_INVALID "mirrored stream name is invalid";
    10143 400 STREAM_MIRRORS_CAN_NOT_HAVE_FIRST_SEQUENCE
        "stream mirrors can not have first sequence configured";
    10144 400 SOURCE_WITH_MULTIPLE_SUBJECT_TRANSFORMS_CANNOT_HAVE
        "source with multiple subject transforms cannot also have a single subject filter";
    10145 400 SOURCE_TRANSFORM_SOURCE "source transform source: {err}";
    10146 400 SOURCE_TRANSFORM "source transform: {err}";
    10147 400 SOURCE_FILTERS_CAN_NOT_OVERLAP "source filters can not overlap";
    10148 400 CONSUMER_ALREADY_EXISTS "consumer already exists";
    10149 400 CONSUMER_DOES_NOT_EXIST "consumer does not exist";
    10150 400 MIRROR_WITH_MULTIPLE_SUBJECT_TRANSFORMS_CANNOT_HAVE
        "mirror with multiple subject transforms cannot also have a single subject filter";
    10151 400 MIRROR_TRANSFORM_SOURCE "mirror transform source: {err}";
    10152 400 MIRROR_SUBJECT_FILTERS_CAN_NOT_OVERLAP "mirror subject filters can not overlap";
    10153 400 CONSUMER_INACTIVE_THRESHOLD_EXCESS
        "consumer inactive threshold exceeds system limit of {limit}";
    10154 400 MIRROR_TRANSFORM "mirror transform: {err}";
    10155 400 STREAM_TRANSFORM_SOURCE "stream transform source: {err}";
    10156 400 STREAM_TRANSFORM "stream transform: {err}";
    10157 400 PEDANTIC "pedantic mode: {err}";
    10158 409 DUPLICATE_MESSAGE_IN_PROCESS "duplicate message id is in process";
    10159 400 SETTING_PRIORITYPOLICY_REQUIRES_AT_LEAST_ONE_PRIORITYGROUP
        "Setting PriorityPolicy requires at least one PriorityGroup to be set";
    10160 400 PROVIDED_PRIORITY_GROUP_DOES_NOT_EXIST_THIS
        "Provided priority group does not exist for this consumer";
    10161 400 GROUP_NAME_CANNOT_EMPTY_STRING "Group name cannot be an empty string";
    10162 400 PRIORITY_GROUP_NAME_INVALID
        concat!(
            "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not ",
            "exceed 16 characters"
        );
    10163 503 EXPECTED_LAST_SEQUENCE_PER_SUBJECT_TEMPORARILY_UNAVAILABLE
        "expected last sequence per subject temporarily unavailable";
    10164 400 WRONG_LAST_SEQUENCE_CONSTANT "wrong last sequence";
    10165 400 INVALID_PER_MESSAGE_TTL "invalid per-message TTL";
    10166 400 PER_MESSAGE_TTL_DISABLED "per-message TTL is disabled";
    10167 429 TOO_MANY_REQUESTS "too many requests";
    10168 400 MESSAGE_COUNTERS_DISABLED "message counters is disabled";
    10169 400 MESSAGE_COUNTER_INCREMENT_MISSING "message counter increment is missing";
    10170 400 MESSAGE_COUNTER_HAS_PAYLOAD "message counter has payload";
    10171 400 MESSAGE_COUNTER_INCREMENT_INVALID "message counter increment is invalid";
    10172 400 MESSAGE_COUNTER_BROKEN "message counter is broken";
    10173 400 STREAM_MIRRORS_CAN_NOT_CALCULATE_COUNTERS
        "stream mirrors can not also calculate counters";
    10174 400 ATOMIC_PUBLISH_DISABLED "atomic publish is disabled";
    10175 400 ATOMIC_PUBLISH_MISSING_SEQ "atomic publish sequence is missing";
    10176 400 ATOMIC_PUBLISH_BATCH_INCOMPLETE "atomic publish batch is incomplete";
    10177 400 ATOMIC_PUBLISH_UNSUPPORTED_HEADER_USED
        "atomic publish unsupported header used: {header}";
    10178 400 PRIORITY_GROUPS_CAN_NOT_USED_WITH_PUSH
        "priority groups can not be used with push consumers";
    10179 400 ATOMIC_PUBLISH_BATCH_ID_INVALID "atomic publish batch ID is invalid";
    10180 412 MIN_LAST_SEQUENCE "min last sequence";
    10181 400 CONSUMER_ACK_POLICY_INVALID "consumer ack policy invalid";
    10182 400 CONSUMER_REPLAY_POLICY_INVALID "consumer replay policy invalid";
    10183 400 CONSUMER_ACK_WAIT_NEEDS_POSITIVE "consumer ack wait needs to be positive";
    10184 400 CONSUMER_BACKOFF_NEEDS_POSITIVE "consumer backoff needs to be positive";
    10185 412 REQUIRED_API_LEVEL "JetStream minimum api level required";
    10186 400 STREAM_MIRRORS_CAN_NOT_SCHEDULE_MESSAGES
        "stream mirrors can not also schedule messages";
    10187 400 STREAM_SOURCE_CAN_NOT_SCHEDULE_MESSAGES
        "stream source can not also schedule messages";
    10188 400 MESSAGE_SCHEDULES_DISABLED "message schedules is disabled";
    10189 400 MESSAGE_SCHEDULES_PATTERN_INVALID "message schedules pattern is invalid";
    10190 400 MESSAGE_SCHEDULES_TARGET_INVALID "message schedules target is invalid";
    10191 400 MESSAGE_SCHEDULES_INVALID_PER_MESSAGE_TTL
        "message schedules invalid per-message TTL";
    10192 400 MESSAGE_SCHEDULES_INVALID_ROLLUP "message schedules invalid rollup";
    10193 400 EXPECTED_LAST_SUBJECT_SEQUENCE_MISSING
        "missing sequence for expected last sequence per subject";
    10194 500 STREAM_OFFLINE_REASON "stream is offline: {err}";
    10195 500 CONSUMER_OFFLINE_REASON "consumer is offline: {err}";
    10196 400 CONSUMER_CAN_NOT_HAVE_PRIORITY_GROUPS_POLICY
        "consumer can not have priority groups when policy is none";
    10197 400 PINNEDTTL_CANNOT_SET_PRIORITYPOLICY_NONE
        "PinnedTTL cannot be set when PriorityPolicy is none";
    10198 400 STREAM_MIRRORS_CAN_NOT_USE_ATOMIC_PUBLISHING
        "stream mirrors can not also use atomic publishing";
    10199 400 ATOMIC_PUBLISH_BATCH_TOO_LARGE "atomic publish batch is too large: {size}";
    10200 400 ATOMIC_PUBLISH_BATCH_COMMIT_INVALID "atomic publish batch commit is invalid";
    10201 400 ATOMIC_PUBLISH_DUPLICATE_MSG_ID "atomic publish batch contains duplicate message id";
    10202 400 CLUSTER_MEMBER_CHANGE_IN_PROGRESS "cluster member change is in progress";
    10203 400 MESSAGE_SCHEDULES_SOURCE_INVALID "message schedules source is invalid";
    10204 400 INVALID_RESET "invalid reset: {err}";
    10205 400 BATCH_PUBLISH_DISABLED "batch publish is disabled";
    10206 400 BATCH_PUBLISH_PATTERN_INVALID "batch publish pattern is invalid";
    10207 400 BATCH_PUBLISH_ID_INVALID "batch publish ID is invalid";
    10208 400 BATCH_PUBLISH_ID_UNKNOWN "batch publish ID unknown";
    10209 400 STREAM_MIRRORS_CAN_NOT_USE_BATCH_PUBLISHING
        "stream mirrors can not also use batch publishing";
    10210 429 ATOMIC_PUBLISH_TOO_MANY_INFLIGHT "atomic publish too many inflight";
    10211 429 BATCH_PUBLISH_TOO_MANY_INFLIGHT "batch publish too many inflight";
    10212 400 MESSAGE_SCHEDULES_INVALID_SCHEDULER "message schedules invalid scheduler";
    10213 400 STREAM_MIRROR_CONSUMER_CONFIG_INVALID "stream mirror consumer config is invalid";
    10214 400 STREAM_MIRROR_CONSUMER_REQUIRES_FLOW_CONTROL_ACK
        "stream mirror consumer requires flow control ack policy";
    10215 400 STREAM_SOURCE_CONSUMER_CONFIG_INVALID "stream source consumer config is invalid";
    10216 400 DUPLICATE_STREAM_SOURCE_CONSUMER_DETECTED
        "duplicate stream source consumer detected";
    10217 400 STREAM_SOURCE_CONSUMER_REQUIRES_FLOW_CONTROL_ACK
        "stream source consumer requires flow control ack policy";
    10218 400 FLOW_CONTROL_ACK_POLICY_REQUIRES_PUSH_BASED
        "flow control ack policy requires a push based consumer";
    10219 400 FLOW_CONTROL_ACK_POLICY_REQUIRES_FLOW_CONTROL
        "flow control ack policy requires flow control";
    10220 400 FLOW_CONTROL_ACK_POLICY_REQUIRES_MAX_ACK
        "flow control ack policy requires max ack pending";
    10221 400 FLOW_CONTROL_ACK_POLICY_REQUIRES_UNSET_ACK
        "flow control ack policy requires unset ack wait";
    10222 400 FLOW_CONTROL_ACK_POLICY_REQUIRES_UNSET_MAX
        "flow control ack policy requires unset max deliver";
    10223 400 MESSAGE_SCHEDULES_TIME_ZONE_INVALID "message schedules time zone is invalid";
    10224 400 JETSTREAM_SYSTEM_RESCUE_NOT_APPLIED "JetStream system rescue not applied: {err}";
    10225 400 CONSUMER_S_STREAM_IDENTITY_DOES_NOT_MATCH
        "consumer's stream identity does not match: {msg}";
    10226 400 STREAM_RECONFIGURATION_ALREADY_IN_PROGRESS
        "stream reconfiguration already in progress";
    10227 400 STREAM_SOURCE_HEADER_NOT_ALLOWED "message stream source header is not allowed";
}
