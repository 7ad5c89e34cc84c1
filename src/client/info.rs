//! INFO: what the server says of itself.

use serde::Serialize;

/// The server as its INFO shows it. Fields that are empty, zero or false are left out where NATS
/// leaves them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ServerInfo {
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    pub proto: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    pub go: String,
    pub host: String,
    pub port: u16,
    pub headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    pub max_payload: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// The fields that differ from connection to connection stand here.
    #[serde(skip)]
    pub connect_urls: Vec<String>,
    #[serde(skip)]
    pub domain: String,
    #[serde(skip)]
    pub api_lvl: i32,
    #[serde(skip)]
    pub xkey: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Which INFO is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoKind {
    /// The first line on a connection.
    First,
    /// After the first PONG: with `connect_info` and the account.
    Second,
    /// Unasked for: lame duck mode begins.
    LameDuck,
}

/// A `ServerInfo` rendered once, to be joined with what differs per connection.
#[derive(Clone, Debug, Default)]
pub struct InfoTemplate {
    before: String,
    domain_and_urls: String,
    after: String,
}

#[derive(Serialize)]
struct Middle<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    connect_urls: &'a [String],
}

#[derive(Serialize)]
struct Tail<'a> {
    api_lvl: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    xkey: &'a str,
}

/// The members of a JSON object, without the braces.
fn members<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_owned()
}

impl InfoTemplate {
    /// Renders what all connections share.
    pub fn new(info: &ServerInfo) -> Self {
        InfoTemplate {
            before: members(info),
            domain_and_urls: members(&Middle {
                domain: &info.domain,
                connect_urls: &info.connect_urls,
            }),
            after: members(&Tail { api_lvl: info.api_lvl, xkey: &info.xkey }),
        }
    }

    /// Appends the INFO line for one connection.
    pub fn push(&self, out: &mut Vec<u8>, kind: InfoKind, client_id: u64, client_ip: &str) {
        out.extend_from_slice(b"INFO {");
        out.extend_from_slice(self.before.as_bytes());
        out.extend_from_slice(b",\"client_id\":");
        crate::protocol::format::push_number(out, client_id);
        if !client_ip.is_empty() {
            out.extend_from_slice(b",\"client_ip\":\"");
            out.extend_from_slice(client_ip.as_bytes());
            out.push(b'"');
        }
        let extra: &[u8] = match kind {
            InfoKind::First => b"",
            InfoKind::Second => b"\"connect_info\":true,\"remote_account\":\"$G\"",
            InfoKind::LameDuck => b"\"ldm\":true",
        };
        let urls = if kind == InfoKind::LameDuck { "" } else { &self.domain_and_urls };
        for part in [urls.as_bytes(), extra, self.after.as_bytes()] {
            if !part.is_empty() {
                out.push(b',');
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"} \r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_nats_writes_them() {
        let info = ServerInfo {
            server_id: "NA".into(),
            server_name: "n\"1".into(),
            version: "2.15.1".into(),
            proto: 1,
            git_commit: "b2fd3ef".into(),
            go: "go1.27.2".into(),
            host: "0.0.0.0".into(),
            port: 4222,
            headers: true,
            max_payload: 1_048_576,
            jetstream: true,
            api_lvl: 5,
            xkey: "XA".into(),
            ..ServerInfo::default()
        };
        let template = InfoTemplate::new(&info);
        let before = "INFO {\"server_id\":\"NA\",\"server_name\":\"n\\\"1\",\"version\":\"2.15.1\",\
            \"proto\":1,\"git_commit\":\"b2fd3ef\",\"go\":\"go1.27.2\",\"host\":\"0.0.0.0\",\
            \"port\":4222,\"headers\":true,\"max_payload\":1048576,\"jetstream\":true,\
            \"client_id\":5,\"client_ip\":\"127.0.0.1\",";
        for (kind, middle) in [
            (InfoKind::First, ""),
            (InfoKind::Second, "\"connect_info\":true,\"remote_account\":\"$G\","),
            (InfoKind::LameDuck, "\"ldm\":true,"),
        ] {
            let mut out = Vec::new();
            template.push(&mut out, kind, 5, "127.0.0.1");
            let want = format!("{before}{middle}\"api_lvl\":5,\"xkey\":\"XA\"}} \r\n");
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
