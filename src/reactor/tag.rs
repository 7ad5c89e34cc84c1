//! What a submission is tagged with: its kind and a slot.

/// What an operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nobody waits for it.
    Ignore = 0,
    /// Multishot accept on the listener.
    Accept = 1,
    /// Multishot receive of a socket slot.
    Receive = 2,
    /// Send of a socket slot.
    Send = 3,
    /// A device operation; the slot is the device's.
    Disk = 4,
    /// The event descriptor by which other threads reach a reactor.
    Event = 5,
    /// A neighbour rang.
    Wake = 6,
}

/// Packs a tag.
pub fn pack(kind: Kind, slot: usize) -> u64 {
    ((kind as u64) << 56) | (slot as u64 & 0x00ff_ffff_ffff_ffff)
}

/// Takes a tag apart.
pub fn unpack(user_data: u64) -> (Kind, usize) {
    let kind = match (user_data >> 56) as u8 {
        1 => Kind::Accept,
        2 => Kind::Receive,
        3 => Kind::Send,
        4 => Kind::Disk,
        5 => Kind::Event,
        6 => Kind::Wake,
        _ => Kind::Ignore,
    };
    (kind, (user_data & 0x00ff_ffff_ffff_ffff) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip() {
        for kind in [Kind::Accept, Kind::Receive, Kind::Send, Kind::Disk, Kind::Event, Kind::Wake] {
            assert_eq!(unpack(pack(kind, 123_456)), (kind, 123_456));
        }
    }
}
