//! Times as Go prints and parses them: RFC 3339 with up to nine digits of a second, trailing zeros
//! trimmed.

use crate::api::json::{Kind, Path, Value, wrong_type};
use crate::types::WallTime;

/// A point in time with the zone it was written in, so that it is shown as it was given: all years
/// of four digits, of which nanoseconds since the epoch hold few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GoTime {
    /// Seconds since the Unix epoch.
    pub unix_seconds: i64,
    /// And nanoseconds, below a second.
    pub nanos: u32,
    /// East of UTC.
    pub offset_seconds: i32,
}

impl GoTime {
    /// Go's zero time, shown as `0001-01-01T00:00:00Z`.
    pub const ZERO: GoTime = GoTime { unix_seconds: -62_135_596_800, nanos: 0, offset_seconds: 0 };

    /// `at` in UTC.
    pub fn utc(at: WallTime) -> Self {
        GoTime {
            unix_seconds: at.0.div_euclid(1_000_000_000),
            nanos: at.0.rem_euclid(1_000_000_000) as u32,
            offset_seconds: 0,
        }
    }

    /// Without the zone; the nearest that there is, for times before 1677 and after 2262.
    pub fn timestamp(self) -> WallTime {
        let ns = i128::from(self.unix_seconds) * 1_000_000_000 + i128::from(self.nanos);
        WallTime(ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// What two times have in common that are the same in different zones.
    pub fn instant(self) -> (i64, u32) {
        (self.unix_seconds, self.nanos)
    }

    /// True for Go's zero time, in whatever zone.
    pub fn is_zero(self) -> bool {
        self.instant() == Self::ZERO.instant()
    }
}

impl Default for GoTime {
    fn default() -> Self {
        GoTime::ZERO
    }
}

impl serde::Serialize for GoTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::with_capacity(35);
        write_time(&mut text, *self);
        serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Appends a time; does not allocate but for `out` itself.
pub fn write_time(out: &mut Vec<u8>, time: GoTime) {
    let seconds = time.unix_seconds + i64::from(time.offset_seconds);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, second / 3_600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    if time.nanos != 0 {
        out.push(b'.');
        digits(out, i64::from(time.nanos), 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if time.offset_seconds == 0 {
        out.push(b'Z');
    } else {
        let minutes = i64::from(time.offset_seconds.unsigned_abs() / 60);
        out.push(if time.offset_seconds < 0 { b'-' } else { b'+' });
        digits(out, minutes / 60, 2);
        out.push(b':');
        digits(out, minutes % 60, 2);
    }
}

/// `at` in UTC: `2026-08-21T10:00:00.123456789Z`.
pub fn rfc3339(at: WallTime) -> String {
    let mut text = Vec::with_capacity(30);
    write_time(&mut text, GoTime::utc(at));
    String::from_utf8(text).unwrap_or_default()
}

fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Year, month and day of a count of days since 1970-01-01 (Gregorian, by eras of 400 years).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Parses RFC 3339. The error is Go's.
pub fn parse_time(text: &str) -> Result<GoTime, String> {
    let mut parser = Parser { text, rest: text };
    let year = parser.number(4, "2006", 0, 9_999, "")?;
    parser.expect('-', "-")?;
    let month = parser.number(2, "01", 1, 12, "month")?;
    parser.expect('-', "-")?;
    let day = parser.number(2, "02", 0, 31, "day")?;
    parser.expect('T', "T")?;
    let hour = parser.number(2, "15", 0, 23, "hour")?;
    parser.expect(':', ":")?;
    let minute = parser.number(2, "04", 0, 59, "minute")?;
    parser.expect(':', ":")?;
    let second = parser.number(2, "05", 0, 59, "second")?;
    let nanos = parser.fraction();
    let offset = parser.zone()?;
    if !parser.rest.is_empty() {
        return Err(parser.wrong(&format!(": extra text: \"{}\"", parser.rest)));
    }
    if day < 1 || day > days_in_month(year, month) {
        return Err(parser.wrong(": day out of range"));
    }
    let days = days_from_civil(year, month, day);
    let unix_seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    Ok(GoTime { unix_seconds, nanos, offset_seconds: offset as i32 })
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn wrong(&self, tail: &str) -> String {
        format!("parsing time \"{}\"{tail}", self.text)
    }

    fn cannot(&self, element: &str) -> String {
        let rest = self.rest;
        self.wrong(&format!(
            " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{rest}\" as \"{element}\""
        ))
    }

    fn number(
        &mut self,
        width: usize,
        element: &str,
        min: i64,
        max: i64,
        what: &str,
    ) -> Result<i64, String> {
        let head = self.rest.as_bytes().get(..width).unwrap_or_default();
        if head.len() < width || !head.iter().all(u8::is_ascii_digit) {
            return Err(self.cannot(element));
        }
        let value = head.iter().fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
        self.rest = &self.rest[width..];
        if !(min..=max).contains(&value) {
            return Err(self.wrong(&format!(": {what} out of range")));
        }
        Ok(value)
    }

    fn expect(&mut self, c: char, element: &str) -> Result<(), String> {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.cannot(element)),
        }
    }

    /// Digits after a point or comma; those beyond the ninth are dropped.
    fn fraction(&mut self) -> u32 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let count = tail.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return 0;
        }
        let mut nanos = 0;
        for i in 0..9 {
            let digit = if i < count { tail.as_bytes()[i] - b'0' } else { 0 };
            nanos = nanos * 10 + u32::from(digit);
        }
        self.rest = &tail[count..];
        nanos
    }

    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let b = self.rest.as_bytes();
        let shaped = b.len() >= 6
            && matches!(b[0], b'+' | b'-')
            && b[3] == b':'
            && [1, 2, 4, 5].iter().all(|&i| b[i].is_ascii_digit());
        if !shaped {
            return Err(self.cannot("Z07:00"));
        }
        let two = |i: usize| i64::from(b[i] - b'0') * 10 + i64::from(b[i + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        let sign = if b[0] == b'-' { -1 } else { 1 };
        self.rest = &self.rest[6..];
        if hours > 24 {
            return Err(self.wrong(": time zone offset hour out of range"));
        }
        // Go takes +24:60 too, and then cannot show it.
        if minutes > 60 || (hours, minutes) == (24, 60) {
            return Err(self.wrong(": time zone offset minute out of range"));
        }
        Ok(sign * (hours * 3_600 + minutes * 60))
    }
}

/// Decodes a time that may be absent.
pub fn optional_time(
    target: &mut Option<GoTime>,
    value: &Value,
    path: &mut Path,
) -> Result<(), String> {
    match &value.kind {
        Kind::Null => *target = None,
        Kind::String(text) => *target = Some(parse_time(text)?),
        _ => return Err(wrong_type(value, "time.Time", path)),
    }
    Ok(())
}

/// A duration as Go prints it.
pub fn go_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let total = ns.unsigned_abs();
    let (seconds, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
    if seconds == 0 {
        let (unit, scale) = match total {
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("\u{b5}s", 1_000),
            _ => ("ns", 1),
        };
        return format!("{sign}{}{unit}", decimal(total / scale, total % scale, scale));
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = sign.to_owned();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&decimal(seconds % 60, nanos, 1_000_000_000));
    text.push('s');
    text
}

fn decimal(whole: u64, fraction: u64, scale: u64) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(time: GoTime) -> String {
        let mut out = Vec::new();
        write_time(&mut out, time);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn wall_times() {
        for (ns, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (1_795_401_015_330_714_765, "2026-11-23T02:30:15.330714765Z"),
            (1_795_401_015_500_000_000, "2026-11-23T02:30:15.5Z"),
        ] {
            assert_eq!(rfc3339(WallTime(ns)), want);
        }
    }

    #[test]
    fn round_trip() {
        for (text, shown) in [
            ("2024-01-01T01:02:03.450+02:00", "2024-01-01T01:02:03.45+02:00"),
            ("2024-02-29T23:59:59.999999999Z", "2024-02-29T23:59:59.999999999Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("2024-01-01T00:00:00-05:30", "2024-01-01T00:00:00-05:30"),
            ("9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:59.999999999-23:59"),
            ("1012-01-01T00:00:00.5-07:00", "1012-01-01T00:00:00.5-07:00"),
            ("0000-01-01T00:00:00+01:00", "0000-01-01T00:00:00+01:00"),
            ("0001-01-01T05:00:00+05:00", "0001-01-01T05:00:00+05:00"),
            ("2024-01-01T00:00:00+23:60", "2024-01-01T00:00:00+24:00"),
        ] {
            let time = parse_time(text).expect(text);
            assert_eq!(show(time), shown);
            assert_eq!(parse_time(shown), Ok(time), "{shown}");
        }
        let at = |text| parse_time(text).expect(text).timestamp();
        assert_eq!(at("2024-01-01T00:00:01Z"), WallTime(1_704_067_201 * 1_000_000_000));
        assert_eq!(at("1969-12-31T23:59:59.5Z"), WallTime(-500_000_000));
        assert_eq!(at("9999-01-01T00:00:00Z"), WallTime(i64::MAX));
        assert_eq!(at("0001-01-01T00:00:00Z"), WallTime(i64::MIN));
        assert!(parse_time("0001-01-01T05:00:00+05:00").expect("zero").is_zero());
        for ns in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(GoTime::utc(WallTime(ns)).timestamp(), WallTime(ns));
        }
        assert_eq!(show(GoTime::ZERO), "0001-01-01T00:00:00Z");
        for day in (-200_000..200_000).step_by(37) {
            let (y, m, d) = civil_from_days(day);
            assert_eq!(days_from_civil(y, m, d), day);
        }
    }

    /// Captured from nats-server 2.15.1.
    #[test]
    fn errors() {
        let layout = "2006-01-02T15:04:05Z07:00";
        for (text, tail) in [
            ("zz", format!(" as \"{layout}\": cannot parse \"zz\" as \"2006\"")),
            ("", format!(" as \"{layout}\": cannot parse \"\" as \"2006\"")),
            ("2024-01-01", format!(" as \"{layout}\": cannot parse \"\" as \"T\"")),
            ("2024-01-01T00:00:00", format!(" as \"{layout}\": cannot parse \"\" as \"Z07:00\"")),
            (
                "2024-01-01 00:00:00Z",
                format!(" as \"{layout}\": cannot parse \" 00:00:00Z\" as \"T\""),
            ),
            ("2024-13-01T00:00:00Z", ": month out of range".to_owned()),
            ("2024-01-32T00:00:00Z", ": day out of range".to_owned()),
            ("2023-02-29T00:00:00Z", ": day out of range".to_owned()),
            ("2024-01-01T25:00:00Z", ": hour out of range".to_owned()),
            ("2024-01-01T00:00:00Zx", ": extra text: \"x\"".to_owned()),
            ("2024-01-01T00:00:00+25:00", ": time zone offset hour out of range".to_owned()),
            ("2024-01-01T00:00:00-24:60", ": time zone offset minute out of range".to_owned()),
        ] {
            assert_eq!(parse_time(text), Err(format!("parsing time \"{text}\"{tail}")));
        }
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (ns, want) in [
            (0, "0s"),
            (5, "5ns"),
            (1_500, "1.5\u{b5}s"),
            (2_000_000, "2ms"),
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_500_000_000, "1h0m0.5s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(go_duration(ns), want);
        }
    }
}
