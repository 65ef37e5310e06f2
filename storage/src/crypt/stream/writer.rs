//! Writing a sealed stream.

use std::io::{self, Write};

use zeroize::Zeroizing;

use super::header::Header;
use super::{CHUNK_BYTES, Chunks, KeyRing, StreamKey, UnixMicros};

/// Seals what is written to it and passes it on to `W`.
///
/// A stream ends with [`finish`](SealWriter::finish). One that was dropped before reads as cut
/// short. Only whole chunks are passed on, so flushing does not make the last bytes appear below.
pub struct SealWriter<W: Write> {
    inner: W,
    chunks: Chunks,
    /// Plaintext of the next chunk. It stays full until more comes, for it could be the last one.
    chunk: Zeroizing<Vec<u8>>,
    /// A write below failed, and nobody knows how much of a chunk it took.
    broken: bool,
}

impl<W: Write> SealWriter<W> {
    /// Begins a stream that `key` opens.
    ///
    /// # Errors
    ///
    /// When the header cannot be written, or the system gives no random bytes.
    pub fn new(inner: W, key: &StreamKey) -> io::Result<SealWriter<W>> {
        SealWriter::begin(inner, &Header::new(0, &[])?, key)
    }

    /// Begins a stream under a key of its own, which the stream carries, sealed by `ring`. Rotation
    /// does not reach it: it opens as long as that version is loaded.
    ///
    /// # Errors
    ///
    /// As for [`new`](SealWriter::new).
    pub fn with_ring(inner: W, ring: &KeyRing, now: UnixMicros) -> io::Result<SealWriter<W>> {
        let key = StreamKey::random()?;
        let (wrapped, version) = key.wrap(ring, now);
        SealWriter::begin(inner, &Header::new(version, wrapped.as_bytes())?, &key)
    }

    fn begin(mut inner: W, header: &Header, key: &StreamKey) -> io::Result<Self> {
        let (bytes, chunks) = header.seal(&key.0);
        inner.write_all(&bytes)?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        Ok(SealWriter { inner, chunks, chunk, broken: false })
    }

    /// Ends the stream, flushes, and gives back what is below.
    ///
    /// # Errors
    ///
    /// When writing below fails, now or before. The stream is of no use then.
    pub fn finish(mut self) -> io::Result<W> {
        self.pass_on(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn pass_on(&mut self, last: bool) -> io::Result<()> {
        self.usable()?;
        self.broken = true;
        let tag = self.chunks.seal(&mut self.chunk, last)?;
        self.inner.write_all(&self.chunk)?;
        self.inner.write_all(&tag)?;
        self.chunk.clear();
        self.broken = false;
        Ok(())
    }

    fn usable(&self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write of this sealed stream failed"));
        }
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.usable()?;
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.pass_on(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.usable()?;
        self.inner.flush()
    }
}
