//! What a seed turns on, and how large things are: every seed differs (swarm testing).

use corelane::client::{Limits, ServerInfo};
use corelane::shard::{CheckpointOptions, JOB_VISITS, SortOptions};
use corelane::types::ShardId;
use corelane_storage::device::sim::{SimFaults, SimRng};
use corelane_storage::log::{LogOptions, SyncPolicy};

use crate::aimed::Aimed;
use crate::later::Later;

/// Sets the choices of what was added later apart. Chosen so that it is off in the seeds of
/// `seeds.txt`.
pub const MORE: u64 = 0x8_2090_0000;

/// Sets the choices of what was added still later apart, likewise.
pub const KINDS: u64 = 0xdda7_5e10_0000;

/// Sets the choices of what was added last apart, likewise.
pub const LARGE: u64 = 0x11_3c00_0000;

/// Jobs of many steps, of a few, and as in production.
const VISITS: [u32; 3] = [12, 50, JOB_VISITS];

/// Bytes of requests from a reactor that may wait in a shard, where nothing else is drawn.
const REQUEST_CREDIT: u64 = 1 << 20;

/// Nobody is closed because of his patience.
fn limits() -> Limits {
    Limits {
        write_deadline: 600_000_000_000,
        ping_interval: 3_600_000_000_000,
        ..Limits::default()
    }
}

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub reactors: u16,
    pub shards: u16,
    pub lane_control: usize,
    pub lane_messages: usize,
    pub credit_bytes: u64,
    pub backlog_bytes: usize,
    pub index_cache_bytes: usize,
    /// Entries that one step of a long job visits.
    pub job_visits: u32,
    pub faults: SimFaults,
    pub checkpoint: CheckpointOptions,
    pub sort: SortOptions,
    pub limits: Limits,
    pub clients: usize,
    pub streams: usize,
    pub crashes: u32,
    pub payload_max: u64,
    /// Nanoseconds between two operations, on average.
    pub pace: u64,
    segment_bytes: u32,
    tail_bytes: usize,
    writes_in_flight: u32,
    /// Phases in which the disk is full.
    pub full_disk: bool,
    /// Connections are cut now and then.
    pub disconnects: bool,
    /// Some readers are slow.
    pub slow_readers: bool,
    pub memory_streams: bool,
    pub limited_streams: bool,
    pub removals: bool,
    pub stream_churn: bool,
    pub consumers: bool,
    pub push_consumers: bool,
    pub core_requests: bool,
    /// Bits flip on the medium at the end.
    pub rot: bool,
    /// Looks closer at rest, and more kinds of requests.
    pub thorough: bool,
    /// Core publish and subscribe among the clients.
    pub topics: bool,
    /// Now and then a reactor does not come to its next turn for a while.
    pub stalls: bool,
    /// Ephemeral and ordered consumers, groups, and updates of consumers.
    pub kinds: bool,
    /// A flush fails now and then, which stops the node.
    pub failing_flush: bool,
    /// Large messages that are read while they are removed, and a look at last message ids.
    pub large: bool,
    /// How long bytes take to a client or from it, at most.
    pub client_ns: u64,
    /// What was added later still.
    pub later: Later,
    /// What the seed aims at.
    pub aimed: Aimed,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(rng: &mut SimRng, more: &mut SimRng, kinds: &mut SimRng) -> Plan {
        let late = kinds.chance(550_000);
        let job_visits = if late { VISITS[kinds.below(3) as usize] } else { JOB_VISITS };
        let thorough = more.chance(800_000);
        let (topics, stalls) = (thorough && more.chance(600_000), thorough && more.chance(500_000));
        let slow_read_ppm = if thorough && more.chance(400_000) { 50_000 } else { 0 };
        let shards = 1 + rng.below(4) as u16;
        let mut on = |ppm| rng.chance(ppm);
        let (full_disk, slow_flush) = (on(250_000), if on(300_000) { 30_000 } else { 0 });
        let (slow_readers, disconnects, memory_streams) = (on(300_000), on(400_000), on(400_000));
        let (limited_streams, removals, stream_churn) = (on(600_000), on(600_000), on(400_000));
        let (consumers, push_consumers) = (on(800_000), on(400_000));
        let (core_requests, rot) = (on(500_000), on(100_000));
        let mut of = |from: u64, to: u64| from + rng.below(to - from + 1);
        let faults = SimFaults {
            latency_ns_min: of(5_000, 50_000) as i64,
            latency_ns_max: of(50_000, 1_000_000) as i64,
            slow_flush_ppm: slow_flush,
            slow_read_ppm,
            ..SimFaults::default()
        };
        let plan = Plan {
            reactors: of(1, 4) as u16,
            shards,
            lane_control: 1 << of(1, 6).min(if stalls { 3 } else { 6 }),
            lane_messages: 1 << of(0, 5),
            credit_bytes: of(1, 64) << 10,
            backlog_bytes: of(1, 64) as usize * 512,
            index_cache_bytes: of(0, 64) as usize * 2048,
            job_visits,
            faults,
            checkpoint: CheckpointOptions {
                bytes_min: of(8, 512) << 10,
                bytes_max: 1 << 20,
                idle_ns: of(1, 250) as i64 * 1_000_000,
                gap_ns: of(1, 1_000) as i64 * 1_000_000,
            },
            sort: SortOptions::default(),
            limits: limits(),
            clients: of(2, 8) as usize,
            streams: of(1, 6) as usize,
            crashes: of(3, 5) as u32,
            payload_max: [40, 200, 1_500, 6_000][of(0, 3) as usize],
            pace: [5_000, 30_000, 100_000, 400_000][of(0, 3) as usize],
            segment_bytes: (32 << 10) * [2, 3, 4, 8][of(0, 3) as usize],
            tail_bytes: of(2, 8) as usize * (32 << 10),
            writes_in_flight: of(1, 4) as u32,
            full_disk,
            disconnects,
            slow_readers,
            memory_streams,
            limited_streams,
            removals,
            stream_churn,
            consumers,
            push_consumers,
            core_requests,
            rot,
            thorough,
            topics,
            stalls,
            kinds: late && thorough && kinds.chance(800_000),
            failing_flush: late && kinds.chance(300_000),
            large: false,
            client_ns: if stalls && more.chance(500_000) { 1_500 } else { 20_000 },
            later: Later::default(),
            aimed: Aimed::default(),
        };
        Plan { sort: plan.sorting(), ..plan }
    }

    /// Takes over the newest choices.
    pub fn add(&mut self, later: Later, rng: &mut SimRng) {
        if later.paged {
            self.index_cache_bytes = rng.below(3) as usize * 1024;
        }
        if later.sync_interval.is_some() {
            // A failed flush loses what was acknowledged before it, and so does rot.
            (self.failing_flush, self.rot) = (false, false);
            if rng.chance(600_000) {
                // A checkpoint flushes what it needs: without one, only the interval does.
                self.checkpoint.idle_ns = 8_000_000_000;
                self.checkpoint.gap_ns = 8_000_000_000;
            }
        }
        self.rot |= later.superblock_rot;
        if later.lives {
            self.checkpoint.idle_ns = 100_000_000;
            self.checkpoint.gap_ns = 200_000_000;
        }
        if later.impatient {
            self.limits.ping_interval = 100_000_000 + rng.below(400_000_000) as i64;
            self.limits.write_deadline = 20_000_000 + rng.below(200_000_000) as i64;
        }
        self.later = later;
        self.sort = self.sorting();
    }

    /// Takes over what the seed aims at, with what that needs.
    pub fn aim(&mut self, aimed: Aimed) {
        if aimed.lives {
            self.writes_in_flight = self.writes_in_flight.max(2);
            self.faults.torn_ppm = aimed.torn_ppm();
        }
        if aimed.lanes {
            (self.stalls, self.topics, self.core_requests) = (true, true, true);
            self.reactors = self.reactors.max(2);
            self.lane_control = self.lane_control.min(8);
            self.client_ns = 1_500;
        }
        if aimed.page_reads {
            (self.limited_streams, self.removals) = (true, true);
        }
        self.aimed = aimed;
    }

    /// How long an operation of a disk takes at most, in nanoseconds: a slow write, and its flush.
    pub fn disk_op_max(&self) -> i64 {
        200 * self.faults.latency_ns_max
    }

    /// Bytes of requests from a reactor that may wait in a shard.
    pub fn request_credit(&self) -> u64 {
        self.later.request_credit.unwrap_or(REQUEST_CREDIT)
    }

    fn sorting(&self) -> SortOptions {
        SortOptions {
            idle_ns: self.checkpoint.idle_ns / 8,
            streams_min: 2,
            memory_bytes: self.segment_bytes as usize / 3,
        }
    }

    /// The log's settings of a shard.
    pub fn log(&self, shard: u16) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            // Some logs grow into the size of their segments, others begin with it.
            first_segment_bytes: match self.writes_in_flight % 2 {
                0 => self.segment_bytes,
                _ => 32 << 10,
            },
            tail_bytes: self.tail_bytes,
            writes_in_flight: self.writes_in_flight,
            large_writes_in_flight: self.writes_in_flight,
            sync: self.later.sync_interval.map_or(SyncPolicy::Always, SyncPolicy::Interval),
            gather_ns: self.later.gather,
            ..LogOptions::small(0x51b, ShardId(shard), self.shards)
        }
    }

    /// What INFO says.
    pub fn info(&self) -> ServerInfo {
        ServerInfo {
            server_id: "SIM".into(),
            server_name: "sim".into(),
            version: "2.15.1".into(),
            proto: 1,
            go: "go1.27".into(),
            host: "127.0.0.1".into(),
            port: 4222,
            headers: true,
            max_payload: 1 << 20,
            ..ServerInfo::default()
        }
    }
}
