//! The loop of one reactor: gather, turn, act, wait.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::clock::Clock;
use super::disk::Disks;
use super::driver::{self, Completion, Driver, ReceiveBuffers};
use super::links::{Links, NewSocket};
use super::listener;
use super::sockets::Sockets;
use super::tag::{self, Kind};
use crate::config::log::Logger;
use crate::turn::report::{Report, ShellReport};
use crate::turn::{Command, Core, Effects};
use crate::types::{ConnId, ReactorId, Timestamp};

/// Turns longer than this are counted and logged as stalls, in nanoseconds.
const STALL: i64 = 5_000_000;
/// How long nobody is accepted after descriptors ran out, in nanoseconds.
const ACCEPT_PAUSE: i64 = 100_000_000;

/// Turns after a stop at least.
const STOP_TURNS: u32 = 2;
/// How long what is still to be sent may hold up a stop, in nanoseconds.
const STOP_MAX: i64 = 500_000_000;
/// How long a stopping reactor waits for one more completion.
const STOP_LOOK: Duration = Duration::from_millis(1);

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

/// What reactor 0 has beside the others: the listener, and whom it hands sockets to.
pub struct Acceptor {
    /// The listening socket; gone once the node no longer accepts.
    pub listener: Option<std::net::TcpListener>,
    /// The next connection's id.
    pub next_conn: u64,
}

impl Acceptor {
    /// Lets nobody connect any more. The accept that is armed keeps the socket open by itself, so it is ended.
    fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            // SAFETY: the descriptor is open until the end of this block.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }
}

/// One reactor with all it owns.
pub struct Reactor {
    core: Core,
    id: ReactorId,
    driver: Driver,
    buffers: ReceiveBuffers,
    links: Links,
    disks: Disks,
    commands: mpsc::Receiver<Command>,
    mailbox: Mailbox,
    acceptor: Option<Acceptor>,
    loads: Arc<[AtomicUsize]>,
    connections_max: Option<u32>,
    logger: Logger,
    incoming: Vec<NewSocket>,
    sockets: Sockets,
    clock: Clock,
    completions: Vec<Completion>,
    effects: Effects,
    event_count: Box<u64>,
    counted: ShellReport,
    /// Descriptors ran out: accepting goes on then.
    accept_at: Option<Timestamp>,
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
    /// The shards' devices.
    pub disks: Disks,
    /// Commands from other threads.
    pub commands: mpsc::Receiver<Command>,
    /// Its own mailbox.
    pub mailbox: Mailbox,
    /// Reactor 0's listener.
    pub acceptor: Option<Acceptor>,
    /// Open connections by reactor.
    pub loads: Arc<[AtomicUsize]>,
    /// Connections of the node at most.
    pub connections_max: Option<u32>,
    /// Where lines go.
    pub logger: Logger,
}

impl Reactor {
    /// A reactor ready to run.
    pub fn new(parts: Parts) -> Self {
        Reactor {
            core: parts.core,
            id: parts.id,
            driver: parts.driver,
            buffers: parts.buffers,
            links: parts.links,
            disks: parts.disks,
            commands: parts.commands,
            mailbox: parts.mailbox,
            acceptor: parts.acceptor,
            loads: parts.loads,
            connections_max: parts.connections_max,
            logger: parts.logger,
            incoming: Vec::new(),
            sockets: Sockets::default(),
            clock: Clock::default(),
            completions: Vec::with_capacity(1024),
            effects: Effects::default(),
            event_count: Box::new(0),
            counted: ShellReport::default(),
            accept_at: None,
            stopping: None,
        }
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        self.arm_event();
        self.arm_accept();
        loop {
            let now = self.clock.now();
            self.turn(now);
            let end = self.clock.now();
            let took = end.since(now);
            self.counted.turns += 1;
            self.counted.busy_ns += u64::try_from(took).unwrap_or(0);
            if took > STALL {
                self.core.stalled(took);
            }
            if self.has_stopped(end) {
                break;
            }
            self.wait(end);
        }
        self.disks.finish();
    }

    /// After the last turn: what came from other reactors before the stop is sent.
    fn has_stopped(&mut self, now: Timestamp) -> bool {
        let Some((turns, until)) = &mut self.stopping else { return false };
        *turns = turns.saturating_sub(1);
        now >= *until || (*turns == 0 && !self.sockets.any_sending())
    }

    /// One turn: everything that has arrived is handled, and what follows from it is queued.
    fn turn(&mut self, now: Timestamp) {
        self.driver.completions(&mut self.completions);
        self.core.begin(now);
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.arm_accept();
        }
        self.links.drain(now, &mut self.core, &mut self.driver, &mut self.incoming);
        for (fd, conn, peer) in std::mem::take(&mut self.incoming) {
            self.adopt(now, fd, conn, &peer);
        }
        let mut completions = std::mem::take(&mut self.completions);
        for c in completions.drain(..) {
            self.complete(now, c);
        }
        self.completions = completions;
        self.buffers.publish();
        self.sockets.rearm(&mut self.driver);
        self.core.finish(now);
        self.act(now);
    }

    fn complete(&mut self, now: Timestamp, c: Completion) {
        let (kind, slot) = tag::unpack(c.user_data);
        match kind {
            Kind::Receive => self.receive_done(now, slot, c),
            Kind::Send => {
                if let Some(conn) = self.sockets.sent(slot) {
                    if c.result >= 0 {
                        self.core.sent(now, conn, c.result as usize);
                    } else {
                        self.lost(now, conn);
                    }
                }
            }
            Kind::Disk => self.disks.complete(slot, c.result, |shard, done| {
                self.core.disk_done(shard, done);
            }),
            Kind::Event => self.event(now),
            Kind::Accept => self.accepted(now, c),
            Kind::Wake | Kind::Ignore => {}
        }
    }

    fn receive_done(&mut self, now: Timestamp, slot: usize, c: Completion) {
        if c.result > 0 {
            let Some(buffer) = io_uring::cqueue::buffer_select(c.flags) else { return };
            let bytes = self.buffers.get(buffer, c.result as usize);
            if self.sockets.received(slot, bytes, driver::more(c.flags))
                && let Some(conn) = self.sockets.conn(slot)
            {
                self.core.received(now, conn, bytes);
            }
            self.buffers.put(buffer);
        } else if self.sockets.receive_ended(slot, c.result)
            && let Some(conn) = self.sockets.conn(slot)
        {
            self.lost(now, conn);
        }
    }

    /// The peer is gone.
    fn lost(&mut self, now: Timestamp, conn: ConnId) {
        if !self.sockets.is_open(conn) {
            return;
        }
        let kept = self.core.closed(now, conn);
        self.sockets.keep(conn, kept);
        self.sockets.close(conn);
        self.loads[usize::from(self.id.0)].fetch_sub(1, Ordering::Relaxed);
    }

    fn accepted(&mut self, now: Timestamp, c: Completion) {
        if matches!(-c.result, libc::EMFILE | libc::ENFILE) {
            self.accept_at = Some(Timestamp(now.0 + ACCEPT_PAUSE));
            return;
        }
        if !driver::more(c.flags) {
            self.arm_accept();
        }
        if c.result < 0 {
            return;
        }
        let (fd, peer) = listener::adopt(c.result);
        let Some(acceptor) = &mut self.acceptor else { return };
        if acceptor.listener.is_none() {
            return;
        }
        let conn = ConnId(acceptor.next_conn);
        acceptor.next_conn += 1;
        let to = self.least_loaded();
        self.loads[to].fetch_add(1, Ordering::Relaxed);
        let peer = peer.map(|p| p.to_string()).unwrap_or_default();
        if to == usize::from(self.id.0) {
            self.adopt(now, fd, conn, &peer);
        } else {
            self.links.hand_over(to, (fd, conn, peer));
        }
    }

    fn least_loaded(&self) -> usize {
        let load = |i: &usize| self.loads[*i].load(Ordering::Relaxed);
        (0..self.loads.len()).min_by_key(load).unwrap_or(0)
    }

    fn adopt(&mut self, now: Timestamp, fd: OwnedFd, conn: ConnId, peer: &str) {
        let open: usize = self.loads.iter().map(|l| l.load(Ordering::Relaxed)).sum();
        self.core.set_full(self.connections_max.is_some_and(|max| open > max as usize));
        self.sockets.insert(fd, conn, &mut self.driver);
        self.core.accept(now, conn, peer);
    }

    fn event(&mut self, now: Timestamp) {
        self.disks.worker_done(|shard, done| self.core.disk_done(shard, done));
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Stop => {
                    self.stopping.get_or_insert((STOP_TURNS, now.plus(STOP_MAX)));
                }
                Command::StopAccepting => {
                    if let Some(acceptor) = &mut self.acceptor {
                        acceptor.stop();
                    }
                }
                Command::Report(tell) => {
                    let (mesh_batches, mesh_full) = self.links.counted();
                    let disks = self.disks.report();
                    let counted = self.counted.clone();
                    let shell = ShellReport { disks, mesh_batches, mesh_full, ..counted };
                    tell(Report { shell, ..self.core.report() });
                }
                other => self.core.command(now, other),
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
    }

    fn arm_accept(&mut self) {
        let Some(listener) = self.acceptor.as_ref().and_then(|a| a.listener.as_ref()) else {
            return;
        };
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag::pack(Kind::Accept, 0));
        self.driver.push(&entry);
    }

    /// Carries out what the turn decided.
    fn act(&mut self, now: Timestamp) {
        loop {
            self.core.take_effects(&mut self.effects);
            let mut again = false;
            for (conn, pause) in std::mem::take(&mut self.effects.flow) {
                if pause {
                    self.sockets.pause(conn, &mut self.driver);
                } else if let Some((parked, ended)) = self.sockets.resume(conn, &mut self.driver) {
                    if !parked.is_empty() {
                        self.core.received(now, conn, &parked);
                        again = true;
                    }
                    if ended {
                        self.lost(now, conn);
                        again = true;
                    }
                }
            }
            if !again {
                break;
            }
            self.core.finish(now);
        }
        for conn in self.effects.send.drain(..) {
            if !self.sockets.is_sending(conn)
                && let Some(bytes) = self.core.start_send(now, conn)
            {
                self.sockets.send(conn, bytes, &mut self.driver);
            }
        }
        for conn in std::mem::take(&mut self.effects.close) {
            self.lost(now, conn);
        }
        for (shard, op) in self.effects.disk.drain(..) {
            self.disks.submit(shard, op, &mut self.driver);
        }
        self.links.push(&mut self.core, &mut self.driver);
        for line in self.effects.log.drain(..) {
            self.logger.warn(format_args!("{line}"));
        }
        if let Some(why) = self.effects.fatal.take() {
            self.logger.fatal(format_args!("{why}"));
            std::process::exit(1);
        }
    }

    fn wait(&mut self, now: Timestamp) {
        if self.stopping.is_some() {
            return self.driver.submit_and_wait(1, Some(STOP_LOOK));
        }
        if self.core.has_work() || !self.links.try_sleep() {
            self.driver.submit_and_wait(0, None);
            return;
        }
        let deadline = [self.core.deadline(), self.accept_at].into_iter().flatten().min();
        let timeout = deadline.map(|d| {
            Duration::from_nanos(u64::try_from(d.since(now)).unwrap_or(0).max(1_000))
        });
        self.driver.submit_and_wait(1, timeout);
        self.links.wake_up();
    }
}

/// The descriptor of a reactor's ring, for its neighbours.
pub fn ring_fd(driver: &Driver) -> RawFd {
    driver.fd()
}
