//! The command line as written: Go's flag rules over nats-server's flags.
//!
//! One dash or two, `-flag value` or `-flag=value`, switches only with `=`; the first word that is
//! not a flag ends them.

use super::draft::Draft;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Number,
    Text,
}

/// What becomes of a flag here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Obeyed,
    Meaningless,
    Refused,
}

/// A flag: its names, what it takes, what becomes of it, and where its value goes.
struct Flag {
    names: &'static [&'static str],
    kind: Kind,
    r#use: Use,
    set: fn(&mut Flags, Value<'_>),
}

/// A value that fits its flag's kind.
#[derive(Clone, Copy)]
enum Value<'a> {
    Switch(bool),
    Number(i64),
    Text(&'a str),
}

impl Value<'_> {
    fn flag(self) -> bool {
        matches!(self, Value::Switch(true))
    }

    fn number(self) -> i64 {
        if let Value::Number(number) = self { number } else { 0 }
    }

    fn text(self) -> String {
        if let Value::Text(text) = self { text.to_owned() } else { String::new() }
    }
}

/// A command line's flags.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    pub version: bool,
    pub help: bool,
    pub help_tls: bool,
    pub test: bool,
    pub config: Option<String>,
    pub signal: Option<String>,
    /// Settings, which win over the file's.
    pub draft: Draft,
    /// The first flag that was set and that we do not have.
    pub unsupported: Option<&'static str>,
    /// Words after the flags.
    pub words: Vec<String>,
}

fn ignore(_: &mut Flags, _: Value<'_>) {}

/// A flag of nats-server that we do not have; setting it to anything but nothing is refused.
const fn missing(names: &'static [&'static str], kind: Kind) -> Flag {
    Flag { names, kind, r#use: Use::Refused, set: ignore }
}

/// A flag that says how a cluster is run: without one it says nothing.
const fn meaningless_flag(names: &'static [&'static str], kind: Kind) -> Flag {
    Flag { names, kind, r#use: Use::Meaningless, set: ignore }
}

const fn flag(names: &'static [&'static str], kind: Kind, set: fn(&mut Flags, Value<'_>)) -> Flag {
    Flag { names, kind, r#use: Use::Obeyed, set }
}

use Kind::{Number, Switch, Text};

const FLAGS: &[Flag] = &[
    flag(&["v", "version"], Switch, |f, v| f.version = v.flag()),
    flag(&["h", "help"], Switch, |f, v| f.help = v.flag()),
    flag(&["help_tls"], Switch, |f, v| f.help_tls = v.flag()),
    flag(&["t"], Switch, |f, v| f.test = v.flag()),
    flag(&["c", "config"], Text, |f, v| f.config = Some(v.text())),
    flag(&["sl", "signal"], Text, |f, v| f.signal = Some(v.text())),
    flag(&["a", "addr", "net"], Text, |f, v| f.draft.host = Some(v.text())),
    flag(&["p", "port"], Number, |f, v| f.draft.port = Some(v.number())),
    flag(&["n", "name", "server_name"], Text, |f, v| f.draft.server_name = Some(v.text())),
    flag(&["P", "pid"], Text, |f, v| f.draft.pid_file = Some(v.text())),
    flag(&["m", "http_port"], Number, |f, v| f.draft.http_port = Some(v.number())),
    flag(&["client_advertise"], Text, |f, v| f.draft.client_advertise = Some(v.text())),
    flag(&["ports_file_dir"], Text, |f, v| f.draft.ports_file_dir = Some(v.text())),
    flag(&["l", "log"], Text, |f, v| f.draft.log_file = Some(v.text())),
    flag(&["T", "logtime"], Switch, |f, v| f.draft.log_time = Some(v.flag())),
    flag(&["logtime_utc"], Switch, |f, v| f.draft.log_time_utc = Some(v.flag())),
    flag(&["D", "debug"], Switch, |f, v| f.draft.debug = Some(v.flag())),
    flag(&["V", "trace"], Switch, |f, v| f.draft.trace = Some(v.flag())),
    flag(&["VV"], Switch, |f, v| {
        f.draft.trace = Some(v.flag());
        f.draft.trace_verbose = Some(v.flag());
    }),
    flag(&["DV"], Switch, |f, v| {
        f.draft.debug = Some(v.flag());
        f.draft.trace = Some(v.flag());
    }),
    flag(&["DVV"], Switch, |f, v| {
        f.draft.debug = Some(v.flag());
        f.draft.trace = Some(v.flag());
        f.draft.trace_verbose = Some(v.flag());
    }),
    flag(&["log_size_limit"], Number, |f, v| f.draft.log_size_limit = Some(v.number())),
    flag(&["max_traced_msg_len"], Number, |f, v| {
        f.draft.traced_message_max = Some(v.number());
    }),
    flag(&["js", "jetstream"], Switch, |f, v| f.draft.jetstream = Some(v.flag())),
    flag(&["sd", "store_dir"], Text, |f, v| f.draft.store_dir = Some(v.text())),
    meaningless_flag(&["no_advertise"], Switch),
    meaningless_flag(&["connect_retries"], Number),
    meaningless_flag(&["cluster_advertise"], Text),
    missing(&["ms", "https_port"], Number),
    missing(&["s", "syslog"], Switch),
    missing(&["r", "remote_syslog"], Text),
    missing(&["user"], Text),
    missing(&["pass"], Text),
    missing(&["auth"], Text),
    missing(&["tls"], Switch),
    missing(&["tlsverify"], Switch),
    missing(&["tlscert"], Text),
    missing(&["tlskey"], Text),
    missing(&["tlscacert"], Text),
    missing(&["routes"], Text),
    missing(&["cluster", "cluster_listen"], Text),
    missing(&["cluster_name"], Text),
    missing(&["profile"], Number),
];

/// The names of flags that are refused, for the test that the documents list them.
#[cfg(test)]
pub(super) fn refused() -> impl Iterator<Item = &'static str> {
    names_of(Use::Refused)
}

/// And of those without meaning here.
#[cfg(test)]
pub(super) fn meaningless() -> impl Iterator<Item = &'static str> {
    names_of(Use::Meaningless)
}

#[cfg(test)]
fn names_of(r#use: Use) -> impl Iterator<Item = &'static str> {
    let those = FLAGS.iter().filter(move |flag| flag.r#use == r#use);
    those.flat_map(|flag| flag.names.iter().copied()).filter(|name| name.len() > 2)
}

/// Reads `args`, without the program's name. The error is Go's text for it.
pub(super) fn parse(args: &[String]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            flags.words.push(arg.clone());
            break;
        };
        if body == "-" {
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, mut value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = FLAGS.iter().find(|flag| flag.names.contains(&name)) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        if value.is_none() && flag.kind != Switch {
            value = args.next().map(String::as_str);
            if value.is_none() {
                return Err(format!("flag needs an argument: -{name}"));
            }
        }
        apply(flag, name, value.unwrap_or("true"), &mut flags)?;
    }
    flags.words.extend(args.cloned());
    Ok(flags)
}

fn apply(flag: &'static Flag, name: &str, text: &str, flags: &mut Flags) -> Result<(), String> {
    let value = match flag.kind {
        Text => Value::Text(text),
        Switch => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Switch(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Switch(false),
            _ => return Err(format!("invalid boolean value \"{text}\" for -{name}: parse error")),
        },
        Number => match parse_number(text) {
            Ok(number) => Value::Number(number),
            Err(why) => return Err(format!("invalid value \"{text}\" for flag -{name}: {why}")),
        },
    };
    let says_nothing = match value {
        Value::Text(text) => text.is_empty(),
        Value::Switch(on) => !on,
        Value::Number(number) => number == 0,
    };
    if flag.r#use == Use::Refused && !says_nothing {
        flags.unsupported = flags.unsupported.or(flag.names.first().copied());
    }
    (flag.set)(flags, value);
    Ok(())
}

/// An integer as Go reads one with any base: `10`, `0x1f`, `0o17`, `017`, `0b11`, `1_000`.
fn parse_number(text: &str) -> Result<i64, &'static str> {
    const SYNTAX: &str = "parse error";
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // An underscore stands between digits, or between the base and a digit.
    let based = body.len() < lower.len();
    let misplaced = body.contains("__") || body.ends_with('_') || (body.starts_with('_') && !based);
    let bare: String = body.chars().filter(|c| *c != '_').collect();
    if bare.is_empty() || misplaced || !bare.chars().all(|c| c.is_digit(radix)) {
        return Err(SYNTAX);
    }
    i64::from_str_radix(&format!("{sign}{bare}"), radix).map_err(|_| "value out of range")
}

/// Lays the flags that were given over the file's settings: as in nats-server, one that is given
/// empty or zero takes away what the file says.
pub(super) fn merge(file: &mut Draft, flags: &Draft) {
    fn over<T: Clone>(file: &mut Option<T>, flag: &Option<T>) {
        if flag.is_some() {
            file.clone_from(flag);
        }
    }
    over(&mut file.host, &flags.host);
    over(&mut file.port, &flags.port);
    over(&mut file.server_name, &flags.server_name);
    over(&mut file.client_advertise, &flags.client_advertise);
    over(&mut file.http_port, &flags.http_port);
    over(&mut file.debug, &flags.debug);
    over(&mut file.trace, &flags.trace);
    over(&mut file.trace_verbose, &flags.trace_verbose);
    over(&mut file.log_time, &flags.log_time);
    over(&mut file.log_time_utc, &flags.log_time_utc);
    over(&mut file.log_file, &flags.log_file);
    over(&mut file.log_size_limit, &flags.log_size_limit);
    over(&mut file.traced_message_max, &flags.traced_message_max);
    over(&mut file.pid_file, &flags.pid_file);
    over(&mut file.ports_file_dir, &flags.ports_file_dir);
    over(&mut file.jetstream, &flags.jetstream);
    over(&mut file.store_dir, &flags.store_dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Flags, String> {
        parse(&line.split(' ').filter(|w| !w.is_empty()).map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn errors_are_gos() {
        for (line, error) in [
            ("-x", "flag provided but not defined: -x"),
            ("--x=1", "flag provided but not defined: -x"),
            ("-p abc", "invalid value \"abc\" for flag -p: parse error"),
            ("--port x", "invalid value \"x\" for flag -port: parse error"),
            ("-p=", "invalid value \"\" for flag -p: parse error"),
            (
                "-p 99999999999999999999",
                "invalid value \"99999999999999999999\" for flag -p: value out of range",
            ),
            ("-p", "flag needs an argument: -p"),
            ("-js=maybe", "invalid boolean value \"maybe\" for -js: parse error"),
            ("-T=2", "invalid boolean value \"2\" for -T: parse error"),
            ("-v=tRUE", "invalid boolean value \"tRUE\" for -v: parse error"),
            ("---p", "bad flag syntax: ---p"),
            ("--=x", "bad flag syntax: --=x"),
            ("-=x", "bad flag syntax: -=x"),
            ("-v -c", "flag needs an argument: -c"),
        ] {
            assert_eq!(parse_words(line).map(|_| ()), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn values_and_words() {
        let flags = parse_words("--port=-1 -js -sd /d -DV=false -n -p foo -t").unwrap();
        assert_eq!(flags.draft.port, Some(-1));
        assert_eq!(flags.draft.jetstream, Some(true));
        assert_eq!(flags.draft.store_dir.as_deref(), Some("/d"));
        assert_eq!((flags.draft.debug, flags.draft.trace), (Some(false), Some(false)));
        assert_eq!(flags.draft.server_name.as_deref(), Some("-p"));
        assert_eq!(flags.words, ["foo", "-t"]);
        assert!(!flags.test);
        assert_eq!(parse_words("-- -v").unwrap().words, ["-v"]);
        assert_eq!(parse_words("- -v").unwrap().words, ["-", "-v"]);
    }

    #[test]
    fn numbers_have_gos_bases() {
        for (text, number) in [
            ("10", Ok(10)),
            ("-1", Ok(-1)),
            ("+7", Ok(7)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0o17", Ok(15)),
            ("0b11", Ok(3)),
            ("1_000", Ok(1000)),
            ("0x_f", Ok(15)),
            ("0", Ok(0)),
            ("_1", Err("parse error")),
            ("1__0", Err("parse error")),
            ("08", Err("parse error")),
            ("0x", Err("parse error")),
            ("--1", Err("parse error")),
        ] {
            assert_eq!(parse_number(text), number, "{text}");
        }
    }
}
