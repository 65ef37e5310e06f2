//! The admin socket: how commands on this machine reach the running server without a token.
//!
//! `admin.sock` in the data directory serves what the main port serves. Who may use it is decided
//! by the system, not by a token: the file belongs to the server's user alone, and the other end of
//! every connection must be that user or root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";

/// The socket before it has its rights.
const NEW_SOCKET: &str = "admin.sock.new";

/// Longest path of a socket, in bytes: the system's structure holds 108 and a NUL, on other systems
/// 104.
const PATH_MAX: usize = 103;

/// After an accept that failed: usually too many files are open, and some may close.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The process at the other end of a connection to the admin socket. Where a request carries one,
/// the caller is the administrator of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
}

/// The listening socket. Its file is removed when it is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The user the server runs as.
    owner: u32,
}

impl AdminSocket {
    /// Listens in `dir`. The caller holds the data directory, so that a socket found there is one
    /// that a dead process left.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, or something else has its name.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET);
        clear(&path)?;
        let temporary = dir.join(NEW_SOCKET);
        clear(&temporary)?;
        // Under another name until nobody else can connect.
        let reach = Reach::new(dir, NEW_SOCKET)?;
        let listener = std::os::unix::net::UnixListener::bind(reach.path())?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&temporary)?.uid();
        fs::rename(&temporary, &path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path, owner })
    }

    /// Serves `router` until told to end, then finishes the requests under way.
    ///
    /// # Errors
    ///
    /// None that occurs: a failing accept is tried again.
    pub async fn serve(
        self,
        router: Router,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let service = router.into_make_service_with_connect_info::<Peer>();
        axum::serve(self, service).with_graceful_shutdown(until).await
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!("could not remove {}: {error}", self.path.display());
        }
    }
}

impl Listener for AdminSocket {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            let accepted = self.listener.accept().await;
            let checked = accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
            match checked {
                Ok((uid, stream)) if admits(self.owner, uid) => return (stream, Peer { uid }),
                Ok((uid, _)) => warn!(uid, "turned another user away from the admin socket"),
                Err(error) => {
                    warn!("could not accept a connection to the admin socket: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: self.owner })
    }
}

impl Connected<IncomingStream<'_, AdminSocket>> for Peer {
    fn connect_info(stream: IncomingStream<'_, AdminSocket>) -> Self {
        *stream.remote_addr()
    }
}

/// Whether a server of the user `owner` listens to the user `uid`.
fn admits(owner: u32, uid: u32) -> bool {
    uid == owner || uid == 0
}

/// Removes the socket of a dead process.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is not a socket; move it away", path.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A path to a socket that is short enough for the system to bind or connect to. Long ones go
/// through the open directory, so it must be kept as long as the path is used.
#[derive(Debug)]
pub struct Reach {
    path: PathBuf,
    _dir: Option<File>,
}

impl Reach {
    /// A path to the file `name` in `dir`.
    ///
    /// # Errors
    ///
    /// When the path is too long and the system has no other way to the directory.
    pub fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        if OsStr::as_bytes(path.as_os_str()).len() <= PATH_MAX {
            return Ok(Self { path, _dir: None });
        }
        let open = File::open(dir)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        if !through.is_dir() {
            let text = format!("{} is longer than {PATH_MAX} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, text));
        }
        Ok(Self { path: through.join(name), _dir: Some(open) })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Plain;

    use super::*;

    #[test]
    fn only_the_servers_user_and_root_are_admitted() {
        assert!(admits(1000, 1000) && admits(1000, 0) && admits(0, 0));
        assert!(!admits(1000, 1001) && !admits(0, 1000));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_anything_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = AdminSocket::bind(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Plain::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists(), "removed at the end");

        fs::write(&path, "a note").unwrap();
        assert!(AdminSocket::bind(dir.path()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a note");
    }

    #[tokio::test]
    async fn a_long_path_is_reached_through_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        fs::create_dir_all(&deep).unwrap();
        let _socket = AdminSocket::bind(&deep).unwrap();
        assert!(deep.join(SOCKET).exists());
        let reach = Reach::new(&deep, SOCKET).unwrap();
        assert!(reach.path().as_os_str().len() <= PATH_MAX);
        Plain::connect(reach.path()).unwrap();
    }
}
