//! A small listener for Redis clients, so that scripts that look at queues go on working.
//!
//! It is off by default and listens on this machine only. Every command is answered from the queues
//! and the caches themselves; there is nothing behind it that could be lost, and `FLUSHDB` empties
//! caches and nothing else.

mod command;
mod frame;
mod key;
mod lists;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::app::App;
use crate::config::Secret;
use frame::{Decoder, Reply, Words};

/// Most connections at a time; one more is closed at once.
const CONNECTIONS_MAX: usize = 64;
/// After an accept that failed.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// A client that says nothing for so long is let go.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Longest wait for a client to take its answer.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Wrong passwords on one connection.
const GUESSES_MAX: u32 = 3;
/// Bytes of answers that are not kept back for more of them.
const WRITE_BYTES: usize = 64 << 10;
/// Read at a time.
const READ_BYTES: usize = 16 << 10;

/// What the listener needs.
#[derive(Clone)]
pub struct Resp {
    app: App,
    password: Option<Secret>,
}

impl Resp {
    /// Answers from the parts of `app`, whoever knows `password` if there is one.
    #[must_use]
    pub fn new(app: App, password: Option<Secret>) -> Self {
        Self { app, password }
    }

    /// Serves until told to stop.
    pub async fn serve(self, listener: Arc<TcpListener>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, _) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!("could not accept a connection of a Redis client: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                warn!("more than {CONNECTIONS_MAX} Redis clients at a time; one is turned away");
                continue;
            };
            let (resp, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let _one_of_few = permit;
                select! {
                    () = stop.cancelled() => {}
                    () = resp.talk(stream) => {}
                }
            });
        }
    }

    /// Answers one client until it goes, or has to.
    async fn talk(&self, mut stream: TcpStream) {
        let mut session =
            Session { resp: self, admitted: self.password.is_none(), guesses: 0, ended: false };
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; READ_BYTES]);
        while !session.ended {
            let Ok(Ok(n @ 1..)) = timeout(SILENCE_MAX, stream.read(&mut buffer)).await else {
                return;
            };
            let mut out = Vec::new();
            if let Err(fault) = decoder.add(&buffer[..n]) {
                Reply::refused(fault).write(&mut out);
                session.ended = true;
            }
            while !session.ended {
                match decoder.next() {
                    Ok(None) => break,
                    Ok(Some(words)) => {
                        session.answer(&words).await.write(&mut out);
                        // Many short commands may ask for much.
                        if out.len() > WRITE_BYTES {
                            if !send(&mut stream, &out).await {
                                return;
                            }
                            out.clear();
                        }
                    }
                    Err(fault) => {
                        Reply::refused(fault).write(&mut out);
                        session.ended = true;
                    }
                }
            }
            if !send(&mut stream, &out).await {
                return;
            }
        }
    }

    fn is_password(&self, given: &[u8]) -> bool {
        // Digests, so that the time says nothing about the password.
        self.password.as_ref().is_some_and(|password| {
            Sha256::digest(password.reveal().as_bytes()) == Sha256::digest(given)
        })
    }
}

/// Whether all of it was taken in time.
async fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(timeout(WRITE_MAX, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// One connection.
struct Session<'a> {
    resp: &'a Resp,
    /// It may give commands.
    admitted: bool,
    guesses: u32,
    /// It is to be closed.
    ended: bool,
}

impl Session<'_> {
    async fn answer(&mut self, words: &Words) -> Reply {
        let name = words.first().map_or(&b""[..], Vec::as_slice);
        // A page in a browser cannot be kept from sending this machine a form; it begins like this.
        let verbs = [&b"post"[..], b"get", b"put", b"options"];
        let is_verb = verbs.iter().any(|verb| name.eq_ignore_ascii_case(verb));
        let is_path = words.get(1).is_some_and(|word| word.starts_with(b"/"));
        if name.eq_ignore_ascii_case(b"host:") || (is_verb && is_path) {
            self.ended = true;
            return Reply::refused("this is not HTTP");
        }
        if name.eq_ignore_ascii_case(b"quit") {
            self.ended = true;
            return Reply::Simple("OK");
        }
        if name.eq_ignore_ascii_case(b"auth") {
            return self.admit(&words[1..]);
        }
        if !self.admitted {
            return Reply::Error("NOAUTH Authentication required.".to_owned());
        }
        command::run(&self.resp.app, words).await
    }

    fn admit(&mut self, given: &[Vec<u8>]) -> Reply {
        let password = match given {
            [password] => password,
            [user, password] if user == b"default" => password,
            _ => return Reply::refused("wrong number of arguments for 'auth' command"),
        };
        if self.resp.password.is_none() {
            return Reply::refused("AUTH called without any password configured");
        }
        if self.resp.is_password(password) {
            self.admitted = true;
            return Reply::Simple("OK");
        }
        self.guesses += 1;
        self.ended = self.guesses >= GUESSES_MAX;
        Reply::Error("WRONGPASS invalid username-password pair or user is disabled.".to_owned())
    }
}
