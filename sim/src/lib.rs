//! corelane sim.
