//! The text of `--help`.

use super::options::Persona;

const USAGE: &str = "
Usage: NAME [options]

Server Options:
    -a, --addr, --net <host>         Bind to host address (default: 0.0.0.0)
    -p, --port <port>                Use port for clients (default: 4222)
    -n, --name
        --server_name <server_name>  Server name (default: auto)
    -P, --pid <file>                 File to store PID
    -m, --http_port <port>           Use port for http monitoring
    -c, --config <file>              Configuration file
    -t                               Test configuration and exit
    -sl,--signal <signal>[=<pid>]    Send signal to NAME process
                                     (ldm, stop, quit, term, reopen, reload)
                                     <pid> can be either a PID (e.g. 1) or the path to a PID file
        --client_advertise <string>  Client URL to advertise to clients
        --ports_file_dir <dir>       Creates a ports file in the specified directory
                                     (<executable_name>_<pid>.ports).

Logging Options:
    -l, --log <file>                 File to redirect log output
    -T, --logtime                    Timestamp log entries (default: true)
        --logtime_utc                Timestamps in UTC instead of local timezone (default: false)
    -D, --debug                      Enable debugging output
    -V, --trace                      Trace the raw protocol
    -VV                              Verbose trace (traces system account as well)
    -DV                              Debug and trace
    -DVV                             Debug and verbose trace (traces system account as well)
        --log_size_limit <limit>     Logfile size limit (default: auto)
        --max_traced_msg_len <len>   Maximum printable length of traced messages

JetStream Options:
    -js, --jetstream                 Enable JetStream functionality
    -sd, --store_dir <dir>           Set the storage directory (default: STORE)

Not supported yet, refused when given:
    --https_port --syslog --remote_syslog --user --pass --auth --tls --tlscert --tlskey
    --tlsverify --tlscacert --routes --cluster --cluster_listen --cluster_name --profile

Common Options:
    -h, --help                       Show this message
    -v, --version                    Show version
        --help_tls                   TLS help
";

/// What `--help` prints.
pub(super) fn usage(persona: Persona) -> String {
    let store = match persona {
        Persona::Corelane => "./corelane-data",
        Persona::NatsServer => "the system's temporary directory, nats",
    };
    USAGE.replace("NAME", persona.name()).replace("STORE", store)
}

/// What `--help_tls` prints.
pub(super) fn usage_tls() -> String {
    "\nTLS is not supported yet.\n".to_owned()
}
