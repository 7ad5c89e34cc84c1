//! A full mesh: for each ordered pair of reactors a control lane of `A` and a message lane of `B`,
//! and a doorbell for each reactor.

use std::{fmt, sync::Arc};

use crossbeam_utils::CachePadded;

use crate::{
    doorbell::Doorbell,
    ring::{Consumer, Producer, channel},
};

/// How many items the lanes of a mesh hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCapacity {
    /// Slots of each control lane.
    pub control: usize,
    /// Slots of each message lane.
    pub messages: usize,
}

/// The two lanes from this reactor to one other.
#[derive(Debug)]
pub struct Outbound<A, B> {
    /// Interest, catalogue, barriers, credit.
    pub control: Producer<A>,
    /// Batches of routed messages.
    pub messages: Producer<B>,
}

/// The two lanes from one other reactor to this one.
#[derive(Debug)]
pub struct Inbound<A, B> {
    /// Interest, catalogue, barriers, credit.
    pub control: Consumer<A>,
    /// Batches of routed messages.
    pub messages: Consumer<B>,
}

/// One reactor's place in the mesh.
pub struct Endpoint<A, B> {
    id: usize,
    outbound: Vec<Option<Outbound<A, B>>>,
    inbound: Vec<Option<Inbound<A, B>>>,
    doorbells: Arc<[CachePadded<Doorbell>]>,
}

/// Makes the endpoints of a mesh of `n` reactors, by id.
///
/// # Panics
/// When `n` is zero or a capacity is out of range (see [`channel`]).
pub fn mesh<A, B>(n: usize, capacity: LaneCapacity) -> Vec<Endpoint<A, B>> {
    assert!(n > 0, "a mesh has at least one reactor");
    let doorbells: Vec<_> = (0..n).map(|_| CachePadded::new(Doorbell::new())).collect();
    let doorbells: Arc<[CachePadded<Doorbell>]> = Arc::from(doorbells);
    let mut endpoints: Vec<Endpoint<A, B>> = (0..n)
        .map(|id| Endpoint {
            id,
            outbound: (0..n).map(|_| None).collect(),
            inbound: (0..n).map(|_| None).collect(),
            doorbells: Arc::clone(&doorbells),
        })
        .collect();
    for from in 0..n {
        for to in (0..n).filter(|&to| to != from) {
            let (control_out, control_in) = channel(capacity.control);
            let (messages_out, messages_in) = channel(capacity.messages);
            endpoints[from].outbound[to] =
                Some(Outbound { control: control_out, messages: messages_out });
            endpoints[to].inbound[from] =
                Some(Inbound { control: control_in, messages: messages_in });
        }
    }
    endpoints
}

impl<A, B> Endpoint<A, B> {
    /// This reactor's number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// The number of reactors in the mesh, this one included.
    pub fn reactors(&self) -> usize {
        self.doorbells.len()
    }

    /// The numbers of the other reactors, ascending.
    pub fn peers(&self) -> impl Iterator<Item = usize> + use<A, B> {
        let id = self.id;
        (0..self.reactors()).filter(move |&peer| peer != id)
    }

    /// The lanes to `peer`.
    ///
    /// # Panics
    /// When `peer` is this reactor or not in the mesh.
    pub fn outbound(&mut self, peer: usize) -> &mut Outbound<A, B> {
        self.outbound[peer].as_mut().expect("a reactor has no lane to itself")
    }

    /// The lanes from `peer`.
    ///
    /// # Panics
    /// When `peer` is this reactor or not in the mesh.
    pub fn inbound(&mut self, peer: usize) -> &mut Inbound<A, B> {
        self.inbound[peer].as_mut().expect("a reactor has no lane to itself")
    }

    /// Call after pushing to `peer`, once per turn: `true` means that the caller must wake it.
    #[must_use = "the sleeper relies on being woken"]
    pub fn must_wake(&self, peer: usize) -> bool {
        self.doorbells[peer].must_wake()
    }

    /// Call after taking from `peer`, once per turn: `true` means that `peer` sleeps while it has
    /// more for a lane that was full, and the caller must wake it.
    #[must_use = "the sleeper relies on being woken"]
    pub fn must_wake_starved(&mut self, peer: usize) -> bool {
        let lanes = self.inbound(peer);
        let control = lanes.control.take_starved();
        let messages = lanes.messages.take_starved();
        (control || messages) && self.doorbells[peer].must_wake()
    }

    /// Whether there is anything to do: something came in, or a lane that was full has room.
    pub fn has_work(&mut self) -> bool {
        let came = |lanes: &mut Inbound<A, B>| {
            lanes.control.available() > 0 || lanes.messages.available() > 0
        };
        fn freed<T>(lane: &mut Producer<T>) -> bool {
            lane.is_starving() && lane.room() > 0
        }
        self.inbound.iter_mut().flatten().any(came)
            || self
                .outbound
                .iter_mut()
                .flatten()
                .any(|lanes| freed(&mut lanes.control) || freed(&mut lanes.messages))
    }

    /// Announces sleep and looks once more. `true`: the caller may sleep in the kernel, and calls
    /// [`wake_up`](Self::wake_up) when it is back. `false`: there is work, the reactor stays up.
    /// (A neighbour may have rung all the same; its wake-up then arrives later and means nothing.)
    #[must_use = "a reactor with work must not sleep"]
    pub fn try_sleep(&mut self) -> bool {
        self.doorbells[self.id].announce_sleep();
        if self.has_work() {
            self.wake_up();
            return false;
        }
        true
    }

    /// The reactor is up again. Returns whether a neighbour rang.
    pub fn wake_up(&self) -> bool {
        self.doorbells[self.id].wake_up()
    }
}

impl<A, B> fmt::Debug for Endpoint<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("reactors", &self.reactors())
            .finish_non_exhaustive()
    }
}
