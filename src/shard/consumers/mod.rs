//! Consumers of the streams of a shard: messages are read and sent, acknowledgements taken in, what
//! changed is logged. Who there is and what each holds: `state::consumers`.

pub(in crate::shard) mod deliver;
mod pressure;
