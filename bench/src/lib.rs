//! corelane bench.
