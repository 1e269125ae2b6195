//! Begins to listen: at an address, or at a Unix socket.
//!
//! A process that was killed leaves the file of its Unix socket behind. Such a file is replaced,
//! and one at which a process listens is not. The folder is locked from the look to the new file,
//! so that of two processes that start at once one finds the other's.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;

use super::listener::Listener;
use super::socket_file::SocketFile;
use crate::config::Mode;
use crate::config::address::Address;

/// Listens at `at`; a Unix socket gets `mode`. Needs a runtime.
///
/// # Errors
/// `AddrInUse` if another process does; `AlreadyExists` if there is a file that is no socket.
pub async fn bind(at: &Address, mode: Mode) -> io::Result<Listener> {
    match at {
        Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, mode)?;
            listener.set_nonblocking(true)?;
            Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?, Some(file)))
        }
    }
}

fn bind_unix(path: &Path, mode: Mode) -> io::Result<(UnixListener, SocketFile)> {
    // The lock ends with this handle. Whoever has it is about to listen, or has its store there.
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|_| ErrorKind::AddrInUse)?;
    remove_stale(path)?;
    // The process creates files for its user alone, so nobody else connects before the mode is set.
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::at(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode.bits()))?;
    Ok((listener, file))
}

/// Removes the file of a socket at which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // A queue that is full, or a mode that lets nobody in: somebody may listen.
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}
