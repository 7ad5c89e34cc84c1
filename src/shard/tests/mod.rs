//! Shards on a simulated disk: what they hold survives restarts, and what they no longer hold is
//! freed.

mod applying;
mod changes;
mod clocks;
mod credit;
mod damage;
mod deliveries;
mod expected;
mod limits;
mod restart;
mod room;
mod scattered;
mod space;
mod starts;
mod turns;
mod walk;
mod world;
