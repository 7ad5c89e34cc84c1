//! Messages formatted once and patched: a block of equal `PUB`s whose only changing parts are a few
//! digits at known places, so that publishing costs a patch and the kernel's copy.

use crate::wire::write_pub;

/// Digits of a token. 32 symbols each, so a token counts to 2^40.
pub const TOKEN_LEN: usize = 8;
const SYMBOLS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Stands for the token while a template is made.
pub const TOKEN: &str = "!!!!!!!!";
/// Stands for the number of the subject while a template is made.
pub const SUBJECT_NUMBER: &str = "########";

/// Writes `number` as a token of fixed width.
#[inline(always)]
pub fn write_token(place: &mut [u8; TOKEN_LEN], number: u64) {
    let mut rest = number;
    for symbol in place.iter_mut().rev() {
        *symbol = SYMBOLS[(rest & 31) as usize];
        rest >>= 5;
    }
}

/// Reads a token back; `None` when it is not one.
#[inline(always)]
pub fn read_token(place: &[u8]) -> Option<u64> {
    if place.len() != TOKEN_LEN {
        return None;
    }
    place.iter().try_fold(0, |number, &symbol| {
        let value = match symbol {
            b'0'..=b'9' => symbol - b'0',
            b'a'..=b'v' => symbol - b'a' + 10,
            _ => return None,
        };
        Some(number << 5 | u64::from(value))
    })
}

/// A block of equal messages, ready to be sent from the front.
pub struct Template {
    block: Vec<u8>,
    message_len: usize,
    token_at: Option<usize>,
    subject_number_at: Option<usize>,
    payload_at: usize,
}

/// How many bytes a block takes at most (one message is always there).
const BLOCK_BYTES: usize = 256 * 1024;

impl Template {
    /// A block of `PUB subject [reply] size` with `size` payload bytes. [`TOKEN`] and
    /// [`SUBJECT_NUMBER`] may each stand once, anywhere in subject or reply.
    pub fn new(subject: &str, reply: &str, size: usize, count_max: usize) -> Self {
        let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
        let mut message = Vec::with_capacity(size + 128);
        write_pub(&mut message, subject.as_bytes(), reply.as_bytes(), &payload);
        let line_len = message.len() - size - 2;
        let find = |mark: &str| {
            message[..line_len].windows(mark.len()).position(|window| window == mark.as_bytes())
        };
        let (token_at, subject_number_at) = (find(TOKEN), find(SUBJECT_NUMBER));
        let count = (BLOCK_BYTES / message.len()).clamp(1, count_max.max(1));
        Self {
            message_len: message.len(),
            block: message.repeat(count),
            token_at,
            subject_number_at,
            payload_at: line_len,
        }
    }

    /// How many messages the block holds.
    pub fn capacity(&self) -> usize {
        self.block.len() / self.message_len
    }

    /// The bytes of one message on the wire.
    pub fn message_len(&self) -> usize {
        self.message_len
    }

    /// Puts tokens `first..first + count` into the first `count` messages. Returns their bytes.
    #[inline]
    pub fn number(&mut self, first: u64, count: usize) -> usize {
        if let Some(at) = self.token_at {
            let messages = self.block.chunks_exact_mut(self.message_len).take(count);
            for (message, number) in messages.zip(first..) {
                if let Some(place) = message[at..].first_chunk_mut() {
                    write_token(place, number);
                }
            }
        }
        count * self.message_len
    }

    /// Puts the number of a subject into message `index`.
    #[inline]
    pub fn set_subject_number(&mut self, index: usize, number: u64) {
        let Some(at) = self.subject_number_at else { return };
        let mut rest = number;
        let place = &mut self.block[index * self.message_len + at..][..SUBJECT_NUMBER.len()];
        for digit in place.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    /// The payload of the first message, to be changed in place.
    pub fn first_payload(&mut self) -> &mut [u8] {
        let end = self.message_len - 2;
        &mut self.block[self.payload_at..end]
    }

    /// The block; the bytes that [`number`](Self::number) returned are valid.
    pub fn bytes(&self) -> &[u8] {
        &self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let mut place = [0; TOKEN_LEN];
        for number in [0, 1, 31, 32, 12_345_678, (1 << 40) - 1] {
            write_token(&mut place, number);
            assert_eq!(read_token(&place), Some(number));
        }
        assert_eq!(read_token(b"!!!!!!!!"), None);
        assert_eq!(read_token(b"000"), None);
    }

    #[test]
    fn a_block_is_made_of_numbered_messages() {
        let subject = format!("s.{SUBJECT_NUMBER}");
        let reply = format!("r.{TOKEN}");
        let mut template = Template::new(&subject, &reply, 3, 4);
        assert_eq!(template.capacity(), 4);
        let len = template.number(33, 2);
        template.set_subject_number(0, 7);
        template.set_subject_number(1, 12_345_678);
        template.first_payload()[0] = b'X';
        let text = String::from_utf8(template.bytes()[..len].to_vec()).unwrap();
        let expected = "PUB s.00000007 r.00000011 3\r\nXbc\r\n\
                        PUB s.12345678 r.00000012 3\r\nabc\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn large_messages_stand_alone() {
        let template = Template::new("s", "", 1 << 20, 500);
        assert_eq!(template.capacity(), 1);
        assert_eq!(template.bytes().len(), template.message_len());
    }
}
