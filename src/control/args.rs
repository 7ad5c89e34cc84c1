//! The arguments of a request, decoded and refused as nats-server does.

use std::borrow::Cow;

/// Arguments that are looked at; more are ignored.
const ARGUMENTS_MAX: usize = 32;

/// The arguments behind a path's question mark.
#[derive(Debug, Default)]
pub(super) struct Args<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Args<'a> {
    /// Splits and decodes a query; what cannot be decoded is left out.
    pub(super) fn parse(query: Option<&'a str>) -> Args<'a> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.take(ARGUMENTS_MAX).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        Args(decoded.collect())
    }

    /// The first value of a name, or nothing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A switch, off where it is not there.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, String> {
        match self.text(name) {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            other => Err(bad("boolean", name, "ParseBool", other, "invalid syntax")),
        }
    }

    /// A number, 0 where it is not there.
    pub(super) fn integer(&self, name: &str) -> Result<i64, String> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| bad("int", name, "Atoi", text, problem(text)))
    }

    /// A number that is not negative, 0 where it is not there.
    pub(super) fn natural(&self, name: &str) -> Result<u64, String> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(0);
        }
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        let number = plain.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| bad("uint64", name, "ParseUint", text, problem(text)))
    }
}

/// What is wrong with a number.
fn problem(text: &str) -> &'static str {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if numeric { "value out of range" } else { "invalid syntax" }
}

fn bad(kind: &str, name: &str, function: &str, text: &str, problem: &str) -> String {
    let quoted = crate::api::json::go_quote(text);
    format!("Error decoding {kind} for '{name}': strconv.{function}: parsing {quoted}: {problem}")
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_gos() {
        let args = Args::parse(Some("a=1&b=%24G+x&c&d=-5&e=x&f=99999999999999999999&g=%zz&h=T"));
        assert_eq!(args.boolean("a"), Ok(true));
        assert_eq!(args.boolean("h"), Ok(true));
        assert_eq!(args.text("b"), "$G x");
        assert_eq!((args.text("c"), args.text("g"), args.text("none")), ("", "", ""));
        assert_eq!((args.integer("d"), args.integer("none")), (Ok(-5), Ok(0)));
        let text = "Error decoding int for 'e': strconv.Atoi: parsing \"x\": invalid syntax";
        assert_eq!(args.integer("e"), Err(text.to_owned()));
        let text =
            "Error decoding boolean for 'e': strconv.ParseBool: parsing \"x\": invalid syntax";
        assert_eq!(args.boolean("e"), Err(text.to_owned()));
        assert!(args.integer("f").is_err_and(|text| text.ends_with("value out of range")));
        let text =
            "Error decoding uint64 for 'd': strconv.ParseUint: parsing \"-5\": invalid syntax";
        assert!(args.natural("d").is_err_and(|got| got.starts_with(&text[..60])));
    }
}
