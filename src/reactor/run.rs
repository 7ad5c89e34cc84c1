//! The loop of one reactor: gather, turn, act, wait.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use corelane_storage::device::Op;
use io_uring::{opcode, types};

use super::clock::{self, Clock};
use super::descriptors::{self, Connections, Shares};
use super::disk::Disks;
use super::driver::{self, Completion, Driver, ReceiveBuffers};
use super::idle::IdleHold;
use super::links::{self, Links, NewSocket};
use super::listener::Acceptor;
use super::sockets::Sockets;
use super::tag::{self, Kind};
use super::tails::Tails;
use crate::client::CloseReason;
use crate::config::log::Logger;
use crate::logline::LogLine;
use crate::turn::drive::{self, Edge};
use crate::turn::report::{Report, ShellReport};
use crate::turn::{Command, Core, Effects};
use crate::types::{ConnId, ReactorId, Timestamp};

/// Behind a turn of so many nanoseconds, the next one's processor time is looked at.
const BUSY: i64 = 200_000;
/// Turns longer than this are counted and logged as stalls, in nanoseconds.
const STALL: i64 = 5_000_000;
/// How long nobody is accepted after descriptors ran out, in nanoseconds.
const ACCEPT_PAUSE: i64 = 10_000_000;
/// Connections accepted in one turn.
const ACCEPTS_MAX: usize = 64;

/// Turns after a stop at least.
const STOP_TURNS: u32 = 2;
/// How long what is still to be sent may hold up a stop, in nanoseconds.
const STOP_MAX: i64 = 500_000_000;
/// How long a stopping reactor waits for one more completion.
const STOP_LOOK: Duration = Duration::from_millis(1);
/// How many such waits what the kernel still works on may take: what it does not give back by then
/// is left to it.
const STOP_LOOKS_MAX: u32 = 5_000;

/// How other threads reach a reactor: a queue and a descriptor that wakes it.
#[derive(Clone)]
pub struct Mailbox {
    queue: mpsc::Sender<Command>,
    event: Arc<OwnedFd>,
}

impl Mailbox {
    /// A mailbox and its receiving end.
    pub fn new() -> std::io::Result<(Mailbox, mpsc::Receiver<Command>)> {
        let (queue, receiver) = mpsc::channel();
        // SAFETY: eventfd has no preconditions; the descriptor is checked and owned at once.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        Ok((Mailbox { queue, event: Arc::new(event) }, receiver))
    }

    /// Sends a command and wakes the reactor. False if it is gone.
    pub fn send(&self, command: Command) -> bool {
        let there = self.queue.send(command).is_ok();
        let one: u64 = 1;
        // SAFETY: eight bytes from a valid u64 to an eventfd.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
        there
    }
}

/// One reactor with all it owns.
pub struct Reactor {
    core: Core,
    links: Links,
    kernel: Kernel,
    effects: Effects,
    incoming: Vec<NewSocket>,
    clock: Clock,
    tails: Tails,
}

/// What stands between the core and the kernel.
struct Kernel {
    id: ReactorId,
    driver: Driver,
    buffers: ReceiveBuffers,
    /// Ring descriptors of all reactors, by id.
    rings: Vec<RawFd>,
    disks: Disks,
    commands: mpsc::Receiver<Command>,
    mailbox: Mailbox,
    acceptor: Option<Acceptor>,
    connections: Arc<Connections>,
    shares: Shares,
    connections_max: Option<u32>,
    logger: Logger,
    sockets: Sockets,
    completions: Vec<Completion>,
    event_count: Box<u64>,
    /// A read of the event, and a poll for connections, are in the ring.
    event_armed: bool,
    accept_armed: bool,
    /// The operator knows that descriptors do not suffice.
    accept_warned: bool,
    counted: ShellReport,
    /// Descriptors ran out: accepting goes on then.
    accept_at: Option<Timestamp>,
    idle: IdleHold,
    /// It was told to stop: turns that are still to come at least, and when it ends at last.
    stopping: Option<(u32, Timestamp)>,
}

/// What a reactor is built from.
pub struct Parts {
    /// Its state machine.
    pub core: Core,
    /// Its place among the reactors.
    pub id: ReactorId,
    /// The ring.
    pub driver: Driver,
    /// Receive buffers.
    pub buffers: ReceiveBuffers,
    /// The mesh.
    pub links: Links,
    /// The process's clocks.
    pub clock: Clock,
    /// Ring descriptors of all reactors, by id.
    pub rings: Vec<RawFd>,
    /// The shards' devices.
    pub disks: Disks,
    /// Commands from other threads.
    pub commands: mpsc::Receiver<Command>,
    /// Its own mailbox.
    pub mailbox: Mailbox,
    /// Reactor 0's listener.
    pub acceptor: Option<Acceptor>,
    /// The node's connections.
    pub connections: Arc<Connections>,
    /// What the process's descriptors are for.
    pub shares: Shares,
    /// Connections of the node at most.
    pub connections_max: Option<u32>,
    /// Where lines go.
    pub logger: Logger,
    /// Its demand for short wake-ups.
    pub idle: IdleHold,
    /// The node's tail caches.
    pub tails: Tails,
}

impl Reactor {
    /// A reactor ready to run.
    pub fn new(parts: Parts) -> Self {
        Reactor {
            core: parts.core,
            links: parts.links,
            kernel: Kernel {
                id: parts.id,
                driver: parts.driver,
                buffers: parts.buffers,
                rings: parts.rings,
                disks: parts.disks,
                commands: parts.commands,
                mailbox: parts.mailbox,
                acceptor: parts.acceptor,
                sockets: Sockets::new(usize::from(parts.id.0), parts.connections.clone()),
                connections: parts.connections,
                shares: parts.shares,
                connections_max: parts.connections_max,
                logger: parts.logger,
                completions: Vec::with_capacity(1024),
                event_count: Box::new(0),
                event_armed: false,
                accept_armed: false,
                accept_warned: false,
                counted: ShellReport::default(),
                accept_at: None,
                idle: parts.idle,
                stopping: None,
            },
            effects: Effects::default(),
            incoming: Vec::new(),
            clock: parts.clock,
            tails: parts.tails,
        }
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        self.kernel.arm_event();
        let mut busy = false;
        loop {
            let clocks = self.clock.look();
            let ran = busy.then(clock::thread_time);
            self.kernel.driver.completions(&mut self.kernel.completions);
            let Reactor { core, links, kernel, effects, incoming, tails, .. } = &mut self;
            tails.share(core);
            drive::turn(clocks, core, links, kernel, effects, incoming);
            let end = self.clock.now();
            let took = end.since(clocks.now);
            self.kernel.counted.took(u64::try_from(took).unwrap_or(0));
            busy = took > BUSY;
            if took > STALL {
                let ran = ran.map(|before| clock::thread_time() - before);
                self.kernel.counted.preempted += u64::from(ran.is_some_and(|ran| ran <= STALL));
                self.core.stalled(took);
            }
            if self.kernel.has_stopped(end) {
                break;
            }
            self.wait(end);
        }
        self.kernel.disks.finish();
        if !self.kernel.quiesce() {
            // The kernel may still read and write what this owns: it is left to the process's end.
            std::mem::forget(self);
        }
    }

    fn wait(&mut self, now: Timestamp) {
        if self.kernel.stopping.is_some() {
            return self.kernel.driver.submit_and_wait(1, Some(STOP_LOOK));
        }
        let Kernel { driver, sockets, accept_at, idle, disks, .. } = &mut self.kernel;
        idle.look(now);
        let busy = self.core.has_work() || sockets.has_parked() || self.effects.is_pending();
        if busy || !self.links.try_sleep() {
            driver.submit_and_wait(0, None);
            return;
        }
        let disks = disks.deadline(now);
        let deadlines = [self.core.deadline(), *accept_at, idle.deadline(), disks];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline
            .map(|d| Duration::from_nanos(u64::try_from(d.since(now)).unwrap_or(0).max(1_000)));
        driver.submit_and_wait(1, timeout);
        self.links.wake_up();
    }
}

impl Edge for Kernel {
    type Socket = NewSocket;

    fn wake(&mut self, reactor: usize) {
        links::ring(&mut self.driver, self.rings[reactor]);
    }

    fn adopt(&mut self, now: Timestamp, core: &mut Core, socket: NewSocket) {
        core.set_full(!socket.served);
        let (conn, peer) = (socket.conn, socket.peer.clone());
        self.sockets.insert(socket, &mut self.driver);
        core.accept(now, conn, &peer);
    }

    fn arrivals(&mut self, now: Timestamp, core: &mut Core, links: &mut Links) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.arm_accept();
        }
        let mut completions = std::mem::take(&mut self.completions);
        for c in completions.drain(..) {
            self.complete(now, core, links, c);
        }
        self.completions = completions;
        self.disks.settle(&mut self.driver, |shard, done| core.disk_done(shard, done));
        self.buffers.publish();
        self.sockets.rearm(&mut self.driver);
    }

    fn pause(&mut self, conn: ConnId) {
        self.sockets.pause(conn, &mut self.driver);
    }

    fn resume(&mut self, conn: ConnId) {
        self.sockets.resume(conn, &mut self.driver);
    }

    fn unpark(&mut self) -> Option<(ConnId, Vec<u8>, bool)> {
        self.sockets.unpark(&mut self.driver)
    }

    fn unparked(&mut self, piece: Vec<u8>) {
        self.sockets.unparked(piece);
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.sockets.send(conn, bytes, &mut self.driver);
    }

    /// The peer is gone.
    fn lost(&mut self, now: Timestamp, core: &mut Core, conn: ConnId) {
        if !self.sockets.is_open(conn) {
            return;
        }
        let kept = core.closed(now, conn);
        self.sockets.keep(conn, kept);
        self.sockets.close(conn, &mut self.driver);
    }

    fn reset(&mut self, conn: ConnId) {
        self.sockets.reset(conn);
    }

    fn submit(&mut self, shard: usize, op: Op) {
        self.disks.submit(shard, op, &mut self.driver);
    }

    fn lines(&mut self, lines: &mut Vec<LogLine>) {
        self.logger.post(std::mem::take(lines));
    }

    fn fatal(&mut self, why: &str) {
        self.logger.fatal(format_args!("{why}"));
        std::process::exit(1);
    }
}

impl Kernel {
    /// After the last turn: what came from other reactors before the stop is sent.
    fn has_stopped(&mut self, now: Timestamp) -> bool {
        let Some((turns, until)) = &mut self.stopping else { return false };
        *turns = turns.saturating_sub(1);
        now >= *until || (*turns == 0 && !self.sockets.any_sending())
    }

    fn complete(&mut self, now: Timestamp, core: &mut Core, links: &mut Links, c: Completion) {
        let (kind, slot) = tag::unpack(c.user_data);
        match kind {
            Kind::Receive => self.receive_done(now, core, slot, c),
            Kind::Send => {
                if let Some(conn) = self.sockets.sent(slot) {
                    if c.result >= 0 {
                        core.sent(now, conn, c.result as usize);
                    } else {
                        core.failed(conn, CloseReason::WriteError);
                        self.lost(now, core, conn);
                    }
                }
            }
            Kind::Disk => self.disks.complete(slot, c.result, |shard, done| {
                core.disk_done(shard, done);
            }),
            Kind::Event => self.event(now, core, links),
            Kind::Accept => {
                self.accept_armed = false;
                self.accept(now, core, links);
            }
            Kind::Wake | Kind::Ignore => {}
        }
    }

    fn receive_done(&mut self, now: Timestamp, core: &mut Core, slot: usize, c: Completion) {
        if c.result > 0 {
            let Some(buffer) = io_uring::cqueue::buffer_select(c.flags) else { return };
            self.idle.received();
            let bytes = self.buffers.get(buffer, c.result as usize);
            let paused = self.sockets.conn(slot).is_some_and(|conn| core.is_paused(conn));
            if self.sockets.received(slot, bytes, driver::more(c.flags), paused)
                && let Some(conn) = self.sockets.conn(slot)
            {
                core.received(now, conn, bytes);
            }
            self.buffers.put(buffer);
        } else if self.sockets.receive_ended(slot, c.result)
            && let Some(conn) = self.sockets.conn(slot)
        {
            if c.result == 0 {
                core.hung_up(now, conn);
            } else {
                core.failed(conn, CloseReason::ReadError);
                self.lost(now, core, conn);
            }
        }
    }

    /// Accepts connections that wait, as far as there are descriptors for them.
    fn accept(&mut self, now: Timestamp, core: &mut Core, links: &mut Links) {
        for _ in 0..ACCEPTS_MAX {
            if self.connections.open() >= self.shares.accepted {
                return self.pause_accepting(now);
            }
            let Some(acceptor) = &mut self.acceptor else { return };
            match acceptor.accept() {
                Ok(None) => break,
                Ok(Some((stream, peer))) => {
                    let conn = ConnId(acceptor.next_conn());
                    let (fd, peer) = (OwnedFd::from(stream), peer.to_string());
                    let served = self.may_serve();
                    let to = self.connections.least_loaded();
                    self.connections.opened(to, served);
                    let socket = NewSocket { fd, conn, peer, served };
                    if to == usize::from(self.id.0) {
                        self.adopt(now, core, socket);
                    } else {
                        links.hand_over(to, socket);
                    }
                }
                Err(e) if descriptors::ran_out(&e) => {
                    self.warn_of_descriptors(&e.to_string());
                    return self.pause_accepting(now);
                }
                // The peer has given up, most likely.
                Err(_) => {}
            }
        }
        self.arm_accept();
    }

    /// Whether one more connection is served.
    fn may_serve(&mut self) -> bool {
        let served = self.connections.served();
        if self.connections_max.is_some_and(|max| served >= max as usize) {
            return false;
        }
        let may = served < self.shares.connections;
        if !may {
            let limit = descriptors::limit();
            let why = format!("RLIMIT_NOFILE of {limit} leaves descriptors for {served}");
            self.warn_of_descriptors(&why);
        }
        may
    }

    /// Once.
    fn warn_of_descriptors(&mut self, why: &str) {
        if !std::mem::replace(&mut self.accept_warned, true) {
            self.logger.warn(format_args!("Not all connections can be accepted: {why}"));
        }
    }

    fn pause_accepting(&mut self, now: Timestamp) {
        self.accept_at = Some(now.plus(ACCEPT_PAUSE));
    }

    fn event(&mut self, now: Timestamp, core: &mut Core, links: &Links) {
        self.event_armed = false;
        self.disks.worker_done(|shard, done| core.disk_done(shard, done));
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Stop => {
                    self.stopping.get_or_insert((STOP_TURNS, now.plus(STOP_MAX)));
                }
                Command::StartAccepting => self.start_accepting(),
                Command::ReleaseMemory => super::memory::let_go(),
                Command::StopAccepting => {
                    if let Some(acceptor) = &mut self.acceptor {
                        acceptor.stop();
                    }
                }
                Command::Report(tell) => {
                    let (mesh_batches, mesh_full) = links.counted();
                    let disks = self.disks.report();
                    let counted = self.counted.clone();
                    let shell = ShellReport { disks, mesh_batches, mesh_full, ..counted };
                    tell(Report { shell, ..core.report() });
                }
                other => core.command(now, other),
            }
        }
        self.arm_event();
    }

    fn arm_event(&mut self) {
        let fd = types::Fd(self.mailbox.event.as_raw_fd());
        let entry = opcode::Read::new(fd, (&raw mut *self.event_count).cast(), 8)
            .build()
            .user_data(tag::pack(Kind::Event, 0));
        self.driver.push(&entry);
        self.event_armed = true;
    }

    fn start_accepting(&mut self) {
        match self.acceptor.as_mut().map(Acceptor::open) {
            Some(Err(e)) => self.fatal(&format!("the listener cannot be watched: {e}")),
            _ => self.arm_accept(),
        }
    }

    fn arm_accept(&mut self) {
        let Some(watch) = self.acceptor.as_ref().and_then(Acceptor::watch) else { return };
        if self.accept_armed {
            return;
        }
        let entry = opcode::PollAdd::new(types::Fd(watch), libc::POLLIN as u32)
            .build()
            .user_data(tag::pack(Kind::Accept, 0));
        self.driver.push(&entry);
        self.accept_armed = true;
    }

    /// Cancels what the kernel still works on, and waits until it is over: until then, buffers
    /// belong to the kernel. False if that takes too long.
    fn quiesce(&mut self) -> bool {
        for _ in 0..STOP_LOOKS_MAX {
            if !self.is_busy() {
                return true;
            }
            self.driver.cancel_all();
            self.driver.submit_and_wait(1, Some(STOP_LOOK));
            self.driver.completions(&mut self.completions);
            for c in self.completions.drain(..) {
                let (kind, slot) = tag::unpack(c.user_data);
                match kind {
                    Kind::Receive => self.sockets.receive_over(slot, driver::more(c.flags)),
                    Kind::Send => _ = self.sockets.sent(slot),
                    Kind::Disk => self.disks.complete(slot, c.result, |_, _| {}),
                    Kind::Event => self.event_armed = false,
                    Kind::Accept => self.accept_armed = false,
                    Kind::Wake | Kind::Ignore => {}
                }
            }
        }
        false
    }

    fn is_busy(&self) -> bool {
        let armed = self.event_armed || self.accept_armed;
        armed || self.sockets.any_busy() || self.disks.any_busy()
    }
}
