//! Durations and sizes as Go writes and reads them.

use std::fmt::Write as _;

const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

/// Parses a Go duration (`1h30m`, `500ms`, `1.5s`) to nanoseconds; the error is Go's text.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let whole_end = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "" => return Err(format!("time: missing unit in duration \"{text}\"")),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => MICRO,
            "ms" => MILLI,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return Err(format!("time: unknown unit \"{unit}\" in duration \"{text}\"")),
        };
        let whole: i64 =
            if whole.is_empty() { Ok(0) } else { whole.parse() }.map_err(|_| invalid())?;
        let part = whole
            .checked_mul(scale)
            .and_then(|ns| ns.checked_add(fraction_of(fraction, scale)))
            .ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if negative { -total } else { total })
}

/// The digits after a point, in units of `scale`, rounded down.
fn fraction_of(digits: &str, scale: i64) -> i64 {
    let mut left = scale;
    let mut sum: i128 = 0;
    for digit in digits.bytes() {
        // Nineteen digits are more than a nanosecond in an hour has.
        if left == 0 {
            break;
        }
        sum = sum * 10 + i128::from(digit - b'0');
        left /= 10;
    }
    let used = digits.len().min(count_used(scale));
    let value = sum * i128::from(scale) / 10_i128.pow(u32::try_from(used).unwrap_or(0));
    i64::try_from(value).unwrap_or(0)
}

/// Digits that `fraction_of` looks at.
fn count_used(scale: i64) -> usize {
    let mut left = scale;
    let mut count = 0;
    while left > 0 {
        left /= 10;
        count += 1;
    }
    count
}

/// Writes nanoseconds as Go does: `2m0s`, `1.5s`, `96.694µs`, `0s`.
pub fn format_duration(ns: i64) -> String {
    let size = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let second = SECOND.unsigned_abs();
    if size < second {
        let (scale, unit) = match size {
            0 => return "0s".to_owned(),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{unit}", decimal(size, scale));
    }
    let (minutes, seconds) = (size / second / 60, size % (60 * second));
    let mut text = sign.to_owned();
    if minutes >= 60 {
        let _ = write!(text, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(text, "{}m", minutes % 60);
    }
    let _ = write!(text, "{}s", decimal(seconds, second));
    text
}

/// `value / scale` with as many digits as it needs.
fn decimal(value: u64, scale: u64) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = usize::try_from(scale.ilog10()).unwrap_or(0);
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// Bytes for people, as nats-server's log has them: `953.67 MB`, `512 B`.
pub fn format_bytes(bytes: i64) -> String {
    let size = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (size.ln() / 1024_f64.ln()) as i32;
    let unit = ["K", "M", "G", "T", "P", "E"][usize::try_from(exponent - 1).unwrap_or(0).min(5)];
    format!("{:.2} {unit}B", size / 1024_f64.powi(exponent))
}

/// Text in double quotes with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\'' => out.push('\''),
            // What Rust shows escaped cannot be printed; only the escapes differ.
            _ if c.escape_debug().len() == 1 => out.push(c),
            '\0'..='\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            '\u{80}'..='\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, ns) in [
            ("0", 0),
            ("30s", 30 * SECOND),
            ("1h30m", 5400 * SECOND),
            ("500ms", 500 * MILLI),
            ("1.5s", 1_500 * MILLI),
            (".5s", 500 * MILLI),
            ("1.s", SECOND),
            ("-1s", -SECOND),
            ("+5us", 5_000),
            ("5\u{b5}s", 5_000),
            ("1.0000000001s", SECOND),
            ("0.000000001s", 1),
            ("1.123456789h", 4_044_444_440_400),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn quoted_text_has_gos_escapes() {
        assert_eq!(quote("a\"b\\\n\u{1}\u{7f}\u{200b}'é"), r#""a\"b\\\n\x01\x7f\u200b'é""#);
    }

    #[test]
    fn bad_durations_have_gos_words() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("1", "time: missing unit in duration \"1\""),
            ("10K", "time: unknown unit \"K\" in duration \"10K\""),
            (".s", "time: invalid duration \".s\""),
            ("-", "time: invalid duration \"-\""),
            ("9223372036854775807s", "time: invalid duration \"9223372036854775807s\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn durations_and_bytes_are_written_as_go_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (96_694, "96.694\u{b5}s"),
            (1_983_769, "1.983769ms"),
            (40 * SECOND, "40s"),
            (120 * SECOND, "2m0s"),
            (3_661 * SECOND + 500 * MILLI, "1h1m1.5s"),
            (-5 * SECOND, "-5s"),
        ] {
            assert_eq!(format_duration(ns), text);
        }
        assert_eq!(format_bytes(1_000_000_000), "953.67 MB");
        assert_eq!(format_bytes(-1), "-1 B");
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(1024), "1.00 KB");
    }
}
