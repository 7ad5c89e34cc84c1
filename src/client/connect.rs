//! CONNECT: what a client asks for.

use super::CloseReason;
use serde_json::Value;

/// What a connection was told by CONNECT. Fields that a CONNECT leaves out keep what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectFlags {
    /// Answer every operation with `+OK`.
    pub verbose: bool,
    /// Check the subjects of publishes.
    pub pedantic: bool,
    /// Deliver a connection's own messages to it.
    pub echo: bool,
    /// The client understands headers.
    pub headers: bool,
    /// Answer requests that nobody takes with 503.
    pub no_responders: bool,
    /// The client's protocol: with 1 it takes INFO at any time.
    pub protocol: u8,
}

impl Default for ConnectFlags {
    fn default() -> Self {
        ConnectFlags {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
        }
    }
}

/// Who a client says it is, for monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientName {
    /// Its name.
    pub name: String,
    /// The language of its library.
    pub lang: String,
    /// The version of its library.
    pub version: String,
    /// Whom it says it is.
    pub user: User,
}

/// Whom a client says it is. Nobody checks it while there is no authentication: it is shown only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum User {
    /// It does not say.
    #[default]
    None,
    /// A public key.
    Nkey(String),
    /// A user's name.
    Name(String),
    /// A token, which is a secret.
    Token,
}

impl User {
    /// As monitoring shows it.
    pub fn shown(&self) -> &str {
        match self {
            User::None => "",
            User::Nkey(text) | User::Name(text) => text,
            User::Token => "[REDACTED]",
        }
    }

    /// As the log shows it, with the account.
    pub fn label(&self) -> String {
        match self {
            User::None => String::new(),
            User::Nkey(key) => format!("$G/nkey:{key}"),
            User::Name(name) => format!("$G/user:{name}"),
            User::Token => "$G/token".to_owned(),
        }
    }
}

/// What a CONNECT says of its user, the field that counts most first.
#[derive(Default)]
struct Credentials {
    nkey: String,
    user: String,
    token: bool,
}

impl Credentials {
    fn user(self) -> User {
        match self {
            Credentials { nkey, .. } if !nkey.is_empty() => User::Nkey(nkey),
            Credentials { user, .. } if !user.is_empty() => User::Name(user),
            Credentials { token: true, .. } => User::Token,
            _ => User::None,
        }
    }
}

/// Longest name, language or version kept, in bytes.
const NAME_BYTES_MAX: usize = 256;

fn text(value: &Value) -> Option<String> {
    let mut text = value.as_str()?.to_owned();
    if text.len() > NAME_BYTES_MAX {
        let mut end = NAME_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    Some(text)
}

/// Reads a CONNECT's JSON. As in NATS, keys are compared without regard to case, unknown ones are
/// ignored, `null` leaves a field alone and a wrong type closes the connection. A client has
/// headers only where the server has them.
pub fn parse(
    json: &[u8],
    mut flags: ConnectFlags,
    server_headers: bool,
) -> Result<(ConnectFlags, ClientName), CloseReason> {
    let json = String::from_utf8_lossy(json);
    let value: Value = serde_json::from_str(&json).map_err(|_| CloseReason::ProtocolViolation)?;
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return Ok((flags, ClientName::default())),
        _ => return Err(CloseReason::ProtocolViolation),
    };
    let mut name = ClientName::default();
    let mut credentials = Credentials::default();
    let mut foreign_account = false;
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let bad = CloseReason::ProtocolViolation;
        let boolean = || value.as_bool().ok_or(bad);
        let string = || text(value).ok_or(bad);
        match key.to_ascii_lowercase().as_str() {
            "verbose" => flags.verbose = boolean()?,
            "pedantic" => flags.pedantic = boolean()?,
            "echo" => flags.echo = boolean()?,
            "headers" => flags.headers = boolean()?,
            "no_responders" => flags.no_responders = boolean()?,
            "tls_required" | "new_account" => {
                let set = boolean()?;
                foreign_account |= set && key.eq_ignore_ascii_case("new_account");
            }
            "protocol" => {
                let number = value.as_i64().ok_or(bad)?;
                flags.protocol = match number {
                    0 | 1 => number as u8,
                    _ => return Err(CloseReason::BadClientProtocolVersion),
                };
            }
            "name" => name.name = string()?,
            "lang" => name.lang = string()?,
            "version" => name.version = string()?,
            "account" => foreign_account |= !string()?.is_empty(),
            "user" => credentials.user = string()?,
            "nkey" => credentials.nkey = string()?,
            "auth_token" => credentials.token = !string()?.is_empty(),
            "pass" | "jwt" | "sig" => {
                string()?;
            }
            _ => {}
        }
    }
    if foreign_account {
        return Err(CloseReason::AuthenticationFailure);
    }
    flags.headers &= server_headers;
    if flags.no_responders && !flags.headers {
        return Err(CloseReason::NoRespondersRequiresHeaders);
    }
    name.user = credentials.user();
    Ok((flags, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_refused() {
        use CloseReason::*;
        for (json, want) in [
            ("{}", None),
            ("null", None),
            ("[]", Some(ProtocolViolation)),
            ("{} x", Some(ProtocolViolation)),
            ("", Some(ProtocolViolation)),
            ("{\"verbose\":1}", Some(ProtocolViolation)),
            ("{\"verbose\":null}", None),
            ("{\"name\":7}", Some(ProtocolViolation)),
            ("{\"protocol\":1.0}", Some(ProtocolViolation)),
            ("{\"protocol\":2}", Some(BadClientProtocolVersion)),
            ("{\"protocol\":-1}", Some(BadClientProtocolVersion)),
            ("{\"no_responders\":true}", Some(NoRespondersRequiresHeaders)),
            ("{\"account\":\"X\"}", Some(AuthenticationFailure)),
            ("{\"what\":{\"ever\":[1]}}", None),
        ] {
            let got = parse(json.as_bytes(), ConnectFlags::default(), true).err();
            assert_eq!(got, want, "{json}");
        }
    }

    #[test]
    fn who_it_says_it_is() {
        for (json, shown, label) in [
            ("{}", "", ""),
            (r#"{"user":"u","pass":"p"}"#, "u", "$G/user:u"),
            (r#"{"auth_token":"t"}"#, "[REDACTED]", "$G/token"),
            (r#"{"auth_token":"t","user":"u"}"#, "u", "$G/user:u"),
            (r#"{"auth_token":"t","user":"u","nkey":"k"}"#, "k", "$G/nkey:k"),
        ] {
            let (_, name) = parse(json.as_bytes(), ConnectFlags::default(), true).unwrap();
            assert_eq!((name.user.shown(), name.user.label().as_str()), (shown, label), "{json}");
        }
    }

    #[test]
    fn what_is_left_out_stays() {
        let json = br#"{"VERBOSE":false,"headers":true,"no_responders":true,"name":"n"}"#;
        let (flags, name) = parse(json, ConnectFlags::default(), true).unwrap();
        assert!(!flags.verbose && flags.pedantic && flags.echo && flags.headers);
        assert_eq!(name.name, "n");
        let (again, _) = parse(b"{\"echo\":false}", flags, true).unwrap();
        assert_eq!(again, ConnectFlags { echo: false, ..flags });
    }

    #[test]
    fn a_server_without_headers_has_clients_without_headers() {
        let parsed = |json: &[u8]| parse(json, ConnectFlags::default(), false);
        let (flags, _) = parsed(b"{\"headers\":true}").unwrap();
        assert!(!flags.headers);
        let refused = parsed(b"{\"headers\":true,\"no_responders\":true}").err();
        assert_eq!(refused, Some(CloseReason::NoRespondersRequiresHeaders));
    }
}
