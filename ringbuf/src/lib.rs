//! corelane ringbuf.
