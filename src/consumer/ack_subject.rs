//! The subject of an acknowledgement, which is the reply subject of a delivery.

/// The numbers in an acknowledgement subject, which is the reply subject of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckSubject {
    /// Which delivery of the message, from 1.
    pub deliveries: u64,
    /// The message's stream sequence.
    pub seq: u64,
    /// The consumer sequence of the delivery.
    pub consumer_seq: u64,
    /// When the message was stored, in nanoseconds.
    pub stored: i64,
    /// Messages that were pending after the delivery.
    pub pending: u64,
}

impl AckSubject {
    /// Splits `$JS.ACK.<stream>.<consumer>.…` (9 tokens) or
    /// `$JS.ACK.<domain>.<account>.<stream>.<consumer>.…` (11 or more) into stream, consumer and
    /// numbers. `None` for any other shape. What is no number is the greatest one, which belongs to
    /// no delivery.
    pub fn parse(subject: &[u8]) -> Option<(&[u8], &[u8], AckSubject)> {
        let rest = subject.strip_prefix(b"$JS.ACK.")?;
        let count = rest.split(|&b| b == b'.').count();
        let skip = match count {
            7 => 0,
            9.. => 2,
            _ => return None,
        };
        let mut tokens = rest.split(|&b| b == b'.').skip(skip);
        let stream = tokens.next()?;
        let consumer = tokens.next()?;
        let mut number = || tokens.next().and_then(decimal).unwrap_or(u64::MAX);
        let numbers = AckSubject {
            deliveries: number(),
            seq: number(),
            consumer_seq: number(),
            stored: i64::try_from(number()).unwrap_or(0),
            pending: number(),
        };
        Some((stream, consumer, numbers))
    }

    /// Appends the numbers, each with its leading dot.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let stored = self.stored.max(0) as u64;
        for n in [self.deliveries, self.seq, self.consumer_seq, stored, self.pending] {
            out.push(b'.');
            push_decimal(out, n);
        }
    }
}

fn decimal(token: &[u8]) -> Option<u64> {
    if token.is_empty() || token.len() > 20 {
        return None;
    }
    token.iter().try_fold(0u64, |n, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn push_decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_subjects() {
        let numbers =
            AckSubject { deliveries: 2, seq: 33, consumer_seq: 44, stored: 5, pending: 0 };
        let v1 = b"$JS.ACK.S.C.2.33.44.5.0";
        assert_eq!(AckSubject::parse(v1), Some((&b"S"[..], &b"C"[..], numbers)));
        let v2 = b"$JS.ACK._.hash.S.C.2.33.44.5.0.x";
        assert_eq!(AckSubject::parse(v2), Some((&b"S"[..], &b"C"[..], numbers)));
        let mut out = b"$JS.ACK.S.C".to_vec();
        numbers.write_to(&mut out);
        assert_eq!(out, v1);
        let odd = AckSubject::parse(b"$JS.ACK.S.C.2.x.44.y.0").map(|(_, _, numbers)| numbers);
        assert_eq!(odd, Some(AckSubject { seq: u64::MAX, stored: 0, ..numbers }));
        for bad in ["$JS.ACK.S.C.2.33.44.5", "$JS.ACK.S", "foo"] {
            assert_eq!(AckSubject::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
