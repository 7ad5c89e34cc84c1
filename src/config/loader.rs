//! The process's own files and environment.

use super::Loader;
use std::io;

/// Reads real files and the real environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsLoader;

impl Loader for OsLoader {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        // An empty name is the directory itself in Go's file functions when it was joined, none
        // when it was not.
        std::fs::read(path).map_err(|e| {
            let verb = if e.kind() == io::ErrorKind::IsADirectory { "read" } else { "open" };
            format!("{verb} {path}: {}", go_error(&e))
        })
    }

    fn var(&mut self, name: &str) -> Option<String> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
    }
}

/// An error of the system in the words Go has for it: the C library's text in lower case, without
/// the number.
pub fn go_error(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    match code {
        libc::ENOENT => "no such file or directory",
        libc::EACCES => "permission denied",
        libc::EISDIR => "is a directory",
        libc::ENOTDIR => "not a directory",
        libc::EADDRINUSE => "address already in use",
        libc::EADDRNOTAVAIL => "cannot assign requested address",
        libc::ELOOP => "too many levels of symbolic links",
        libc::ENAMETOOLONG => "file name too long",
        libc::ENOSPC => "no space left on device",
        libc::EROFS => "read-only file system",
        libc::EMFILE => "too many open files",
        libc::EPERM => "operation not permitted",
        libc::ESRCH => "no such process",
        libc::EINVAL => "invalid argument",
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            return text.to_lowercase();
        }
    }
    .to_owned()
}
