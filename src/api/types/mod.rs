//! The JSON objects of the API. Members serialise in nats-server's order and with its rules for
//! what is left out.

mod consumer;
mod enums;
mod lookup;
mod request;
mod response;
mod stream;

pub use consumer::*;
pub use enums::*;
pub use lookup::*;
pub use request::*;
pub use response::*;
pub use stream::*;

/// Conditions under which a member is left out.
pub(crate) mod skip {
    /// Zero, false, empty or absent: Go's `omitempty`.
    pub fn zero<T: Default + PartialEq>(value: &T) -> bool {
        *value == T::default()
    }
}
