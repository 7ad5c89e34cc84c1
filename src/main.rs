//! The broker's binary.

use corelane::config::{Command, OsLoader, cli, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let code = match cli::parse(&args, &mut OsLoader) {
        Command::Run(options) => corelane::server::run(*options),
        Command::Done(reply) => reply.emit(),
        Command::Signal(request) => signal::send(&request).emit(),
    };
    std::process::exit(code);
}
