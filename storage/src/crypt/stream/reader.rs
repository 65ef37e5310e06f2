//! Reading a sealed stream.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::header::Header;
use super::{CHUNK_BYTES, Chunks, KeyRing, StreamError, StreamKey, TAG_BYTES};

const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// Opens a sealed stream as it is read from `R`.
///
/// Bytes come out only after their chunk was found to be whole and in its place. A stream that was
/// changed is an error of kind [`InvalidData`](io::ErrorKind::InvalidData), one that lacks its end
/// of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), and every later read repeats it. So the
/// end of the stream is the proof that everything was there.
pub struct OpenReader<R: Read> {
    inner: R,
    chunks: Chunks,
    /// One sealed chunk and the byte after it, which tells whether it is the last; then its plaintext.
    buffer: Zeroizing<Vec<u8>>,
    /// Plaintext not yet handed out: this part of the buffer.
    ready: std::ops::Range<usize>,
    /// The byte after the chunk in the buffer.
    ahead: Option<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The last chunk was opened.
    Done,
    /// With an error of this kind.
    Failed(io::ErrorKind),
}

impl<R: Read> OpenReader<R> {
    /// Reads the header and checks that `key` is the one.
    ///
    /// # Errors
    ///
    /// [`StreamError`]; as an [`io::Error`] it is of kind [`InvalidData`](io::ErrorKind::InvalidData)
    /// unless reading failed.
    pub fn new(mut inner: R, key: &StreamKey) -> Result<OpenReader<R>, StreamError> {
        let header = Header::read(&mut inner)?;
        if header.version != 0 {
            return Err(StreamError::OtherKind("a key of the key ring"));
        }
        OpenReader::begin(inner, &header, key)
    }

    /// Reads the header of a stream that carries its own key, sealed by a key of `ring`.
    ///
    /// # Errors
    ///
    /// As for [`new`](OpenReader::new).
    pub fn with_ring(mut inner: R, ring: &KeyRing) -> Result<OpenReader<R>, StreamError> {
        let header = Header::read(&mut inner)?;
        let version = header.version;
        if version == 0 {
            return Err(StreamError::OtherKind("a key given for it"));
        }
        let token = std::str::from_utf8(&header.wrapped).map_err(|_| StreamError::NotSealed)?;
        let key = StreamKey::unwrap(ring, token, version)
            .map_err(|source| StreamError::NoKey { version, source })?;
        OpenReader::begin(inner, &header, &key)
    }

    fn begin(mut inner: R, header: &Header, key: &StreamKey) -> Result<Self, StreamError> {
        let chunks = header.open(&mut inner, &key.0)?;
        let buffer = Zeroizing::new(vec![0; SEALED_BYTES + 1]);
        Ok(OpenReader { inner, chunks, buffer, ready: 0..0, ahead: None, state: State::Reading })
    }

    /// Opens the next chunk.
    fn advance(&mut self) -> io::Result<()> {
        let mut filled = 0;
        if let Some(byte) = self.ahead.take() {
            self.buffer[0] = byte;
            filled = 1;
        }
        while filled < self.buffer.len() {
            match self.inner.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read is lost, so going on would call this damage.
                Err(error) => {
                    self.state = State::Failed(error.kind());
                    return Err(error);
                }
            }
        }
        let last = filled <= SEALED_BYTES;
        let sealed = filled.min(SEALED_BYTES);
        self.ahead = (!last).then(|| self.buffer[SEALED_BYTES]);
        let chunk = &mut self.buffer[..sealed];
        let Some((chunk, tag)) = chunk.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(self.fail(io::ErrorKind::UnexpectedEof));
        };
        if self.chunks.open(chunk, tag, last) {
            self.ready = 0..chunk.len();
            self.state = if last { State::Done } else { State::Reading };
            return Ok(());
        }
        // A sound chunk that says others follow: the stream was cut between two chunks.
        let cut = last && self.chunks.open(chunk, tag, false);
        Err(self.fail(if cut { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData }))
    }

    fn fail(&mut self, kind: io::ErrorKind) -> io::Error {
        self.state = State::Failed(kind);
        failure(kind)
    }
}

fn failure(kind: io::ErrorKind) -> io::Error {
    let reason = match kind {
        io::ErrorKind::UnexpectedEof => "the sealed stream is cut short",
        io::ErrorKind::InvalidData => "the sealed stream is damaged",
        _ => "the sealed stream could not be read",
    };
    io::Error::new(kind, reason)
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !out.is_empty() {
            match self.state {
                State::Reading => self.advance()?,
                State::Done => return Ok(0),
                State::Failed(kind) => return Err(failure(kind)),
            }
        }
        let n = out.len().min(self.ready.len());
        let at = self.ready.start;
        out[..n].copy_from_slice(&self.buffer[at..at + n]);
        self.ready.start += n;
        Ok(n)
    }
}
