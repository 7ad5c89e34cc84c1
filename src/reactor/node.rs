//! Starting and stopping a node: the listener, one thread per reactor, and the order in which they
//! become ready.

use std::net::TcpListener;
use std::os::fd::RawFd;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::JoinHandle;

use corelane_ringbuf::{Endpoint, LaneCapacity, mesh};

use super::affinity;
use super::clock::Clock;
use super::descriptors::{self, Connections, Demand, Shares};
use super::disk::Disks;
use super::driver::Driver;
use super::idle::IdleHold;
use super::links::{Lane, Links};
use super::listener::{self, Acceptor};
use super::run::{Mailbox, Parts, Reactor};
use super::store::Store;
use super::tails::Tails;
use crate::config::Options;
use crate::config::log::Logger;
use crate::turn::drive;
use crate::turn::links::Batch;
use crate::turn::{Command, Core, Net, NetConfig, Settings};
use crate::types::{ReactorId, ShardId};

/// Slots of a lane between two reactors. A batch is a slot and may hold a turn's reads (a MiB), so
/// few are needed: what waits in a lane must fit into an outbound that is half full.
const LANES: LaneCapacity = LaneCapacity { control: 256, messages: 2 };
/// Receive buffers of a reactor: few and large, so that they stay in the cache.
const RECEIVE_BUFFERS: u16 = 16;
/// Bytes of a receive buffer.
const RECEIVE_BYTES: usize = 128 << 10;

/// What a node is started with.
pub struct Plan {
    /// What the operator asked for.
    pub options: Options,
    /// The name that clients see.
    pub server_name: String,
    /// Limits and INFO.
    pub settings: Arc<Settings>,
    /// Where reactors write lines.
    pub logger: Logger,
    /// How many reactors.
    pub reactors: usize,
    /// CPUs to pin them to, in turn; empty means all allowed ones.
    pub cpus: Vec<usize>,
    /// Whether to pin.
    pub pin: bool,
    /// The store, if JetStream is on.
    pub store: Option<Store>,
    /// Descriptors that others than reactors may still open.
    pub descriptors_elsewhere: usize,
}

/// Why a node did not start.
#[derive(Debug)]
pub enum NodeError {
    /// The listener could not be bound.
    Listen(std::io::Error),
    /// A reactor could not be made: a missing feature or limit, named in the text.
    Reactor(String),
    /// A store could not be opened.
    Store(String),
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeError::Listen(e) => e.fmt(f),
            NodeError::Reactor(e) | NodeError::Store(e) => f.write_str(e),
        }
    }
}

/// A running node.
pub struct Node {
    mailboxes: Vec<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    connections: Arc<Connections>,
    /// The listener until it listens.
    waiting: Option<TcpListener>,
}

/// What the reactors' threads share while they start.
struct Start {
    plan: Plan,
    rings: Mutex<Vec<RawFd>>,
    made: Barrier,
    shares: Shares,
    mailboxes: Vec<Mailbox>,
    connections: Arc<Connections>,
    tails: Tails,
    clock: Clock,
    ready: mpsc::Sender<Result<(), NodeError>>,
}

/// What only one reactor's thread gets.
struct Own {
    id: usize,
    endpoint: Endpoint<Lane, Batch>,
    commands: mpsc::Receiver<Command>,
    listener: Option<TcpListener>,
}

/// Binds the listener of a plan: before anything else, so that an address in use is told at once.
pub fn listen(options: &Options) -> Result<TcpListener, NodeError> {
    listener::bind(&options.host, options.port).map_err(NodeError::Listen)
}

impl Node {
    /// Starts the reactors and waits until all of them are ready. Clients are accepted from
    /// [`Node::open`] on.
    pub fn start(plan: Plan, listener: TcpListener) -> Result<Node, NodeError> {
        let n = plan.reactors;
        let mut mailboxes = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..n {
            let (mailbox, receiver) =
                Mailbox::new().map_err(|e| NodeError::Reactor(format!("eventfd: {e}")))?;
            mailboxes.push(mailbox);
            receivers.push(receiver);
        }
        let (ready, readiness) = mpsc::channel();
        let shares = share_descriptors(&plan).map_err(NodeError::Reactor)?;
        let shards = plan.store.as_ref().map_or(1, |store| store.shards);
        let tails = Tails::new(shards, plan.options.engine.tail_cache_bytes);
        let start = Arc::new(Start {
            plan,
            rings: Mutex::new(vec![-1; n]),
            made: Barrier::new(n),
            shares,
            mailboxes: mailboxes.clone(),
            connections: Arc::new(Connections::new(n)),
            ready,
            tails,
            clock: Clock::start(),
        });
        let waiting = listener.try_clone().map_err(NodeError::Listen)?;
        let mut listener = Some(listener);
        let mut threads = Vec::new();
        for (endpoint, commands) in mesh(n, LANES).into_iter().zip(receivers) {
            let own = Own { id: endpoint.id(), endpoint, commands, listener: listener.take() };
            let start = start.clone();
            let thread = std::thread::Builder::new()
                .name(format!("reactor-{}", own.id))
                .spawn(move || reactor_thread(own, &start))
                .map_err(|e| NodeError::Reactor(format!("thread: {e}")))?;
            threads.push(thread);
        }
        let connections = start.connections.clone();
        drop(start);
        for _ in 0..n {
            match readiness.recv() {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => return Err(NodeError::Reactor("a reactor ended at its start".into())),
            }
        }
        Ok(Node { mailboxes, threads, connections, waiting: Some(waiting) })
    }

    /// Lets clients connect.
    pub fn open(&mut self) -> Result<(), NodeError> {
        if let Some(listener) = self.waiting.take() {
            listener::listen(&listener).map_err(NodeError::Listen)?;
            // Reactor 0 holds it, too, and is the only one to do so from here on.
            drop(listener);
            self.mailboxes[0].send(Command::StartAccepting);
        }
        Ok(())
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.open()
    }

    /// The reactors' mailboxes, by id.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    /// Lets nobody connect any more.
    pub fn stop_accepting(&self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::StopAccepting);
        }
    }

    /// Has memory that is not in use go back to the kernel: here, and what the reactors let go of
    /// then with the next call. To be called at rest, some times.
    pub fn release_memory(&self) {
        super::memory::release();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::ReleaseMemory);
        }
    }

    /// Tells every reactor to stop, and waits for them.
    pub fn stop(self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn share_descriptors(plan: &Plan) -> Result<Shares, String> {
    let demand = Demand {
        limit: descriptors::limit(),
        open: descriptors::open(),
        others: plan.descriptors_elsewhere,
        reactors: plan.reactors,
        shards: plan.store.as_ref().map_or(0, |store| usize::from(store.shards)),
    };
    demand.share()
}

fn reactor_thread(own: Own, start: &Start) {
    let id = own.id;
    match make(own, start) {
        Ok(reactor) => {
            let _ = start.ready.send(Ok(()));
            reactor.run();
        }
        Err(e) => {
            // The others wait at the barrier for this one: let them pass, the node is given up
            // anyway.
            let _ = start.ready.send(Err(e));
            if start.rings.lock().is_ok_and(|r| r[id] == -1) {
                start.made.wait();
            }
        }
    }
}

fn make(own: Own, start: &Start) -> Result<Reactor, NodeError> {
    let plan = &start.plan;
    if plan.pin {
        let cpus = if plan.cpus.is_empty() { affinity::allowed() } else { plan.cpus.clone() };
        let cpu = cpus[own.id % cpus.len()];
        affinity::pin(cpu)
            .map_err(|e| NodeError::Reactor(format!("cannot pin a reactor to CPU {cpu}: {e}")))?;
    }
    let failed = |e: std::io::Error| {
        NodeError::Reactor(format!(
            "io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): {e}"
        ))
    };
    let mut driver = Driver::new().map_err(failed)?;
    if let Some(store) = &plan.store {
        // Whoever opens the store next must not do so while writes of this process are under way.
        driver.hold(store.lock()).map_err(failed)?;
    }
    let buffers = driver.receive_buffers(RECEIVE_BUFFERS, RECEIVE_BYTES).map_err(failed)?;
    let mut clock = start.clock;
    let (mut core, directories) = open_core(plan, own.id, &clock)?;
    let mut links = Links::new(own.endpoint);
    drive::start(clock.look(), &mut core, &mut links);
    if let Ok(mut rings) = start.rings.lock() {
        rings[own.id] = driver.fd();
    }
    start.made.wait();
    let rings = start.rings.lock().map(|r| r.clone()).unwrap_or_default();
    let mailbox = start.mailboxes[own.id].clone();
    let disks = Disks::new(directories, start.shares.shard_files, mailbox.clone())
        .map_err(|e| NodeError::Reactor(format!("thread: {e}")))?;
    let acceptor = own.listener.map(Acceptor::new).transpose();
    let acceptor = acceptor.map_err(|e| NodeError::Reactor(format!("epoll: {e}")))?;
    Ok(Reactor::new(Parts {
        core,
        id: ReactorId(own.id as u16),
        driver,
        buffers,
        links,
        clock,
        rings,
        disks,
        commands: own.commands,
        mailbox,
        acceptor,
        connections: start.connections.clone(),
        shares: start.shares,
        connections_max: Some(plan.options.limits.connections_max),
        logger: plan.logger.clone(),
        tails: start.tails.clone(),
        idle: IdleHold::new(plan.options.engine.short_wake_ups),
    }))
}

/// Opens the shards that live on a reactor, and joins them with a net layer.
fn open_core(
    plan: &Plan,
    id: usize,
    clock: &Clock,
) -> Result<(Core, Vec<std::path::PathBuf>), NodeError> {
    let reactors = plan.reactors as u16;
    let reactor = ReactorId(id as u16);
    let (mut shards, mut directories) = (Vec::new(), Vec::new());
    for shard in (0..plan.store.as_ref().map_or(0, |s| s.shards)).map(ShardId) {
        let Some(store) = plan.store.as_ref() else { break };
        if Core::host_of(shard, reactors) != reactor {
            continue;
        }
        let opened = store
            .open_shard(shard, &plan.options, &plan.server_name, clock.now())
            .map_err(NodeError::Store)?;
        for line in opened.lines {
            plan.logger.info(format_args!("{line}"));
        }
        shards.push(opened.shard);
        directories.push(store.shard_directory(shard));
    }
    let count = plan.store.as_ref().map_or(1, |s| s.shards);
    let mut config = NetConfig::new(reactor, reactors, count, plan.settings.clone());
    config.set_publish_credit(plan.options.engine.publish_credit_bytes, count);
    if let Some(max) = plan.options.jetstream.as_ref().and_then(|js| js.requests_max) {
        config.requests_max = max;
    }
    let seed = super::store::random().map_err(|e| NodeError::Reactor(e.to_string()))?;
    config.seed = u64::from_le_bytes(seed);
    let mut net = Net::new(config);
    net.set_jetstream(plan.store.is_some());
    Ok((Core::new(net, shards, reactors), directories))
}
