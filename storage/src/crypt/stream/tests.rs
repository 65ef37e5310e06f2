use std::io::{ErrorKind, Read, Write};

use proptest::prelude::*;

use super::*;

const HEADER_BYTES: usize = 8 + 1 + 4 + 2 + 32 + 16;
const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

fn key(first: u8) -> StreamKey {
    let mut bytes = KeyBytes::default();
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = first + u8::try_from(n).unwrap();
    }
    StreamKey(bytes)
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut writer = SealWriter::new(Vec::new(), &key(0)).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap()
}

fn opened(stream: &[u8]) -> io::Result<Vec<u8>> {
    let mut plaintext = Vec::new();
    OpenReader::new(stream, &key(0))?.read_to_end(&mut plaintext)?;
    Ok(plaintext)
}

fn text(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|n| (n * 31 % 251) as u8).collect()
}

/// A stream below that gives and takes a few bytes at a time.
struct Trickle<T>(T, usize);

impl<R: Read> Read for Trickle<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.1);
        self.0.read(&mut out[..n])
    }
}

impl<W: Write> Write for Trickle<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn lengths_around_chunks() {
    for n_chunks in 0..3 {
        for off in [0, 1, 15, 16, 17, CHUNK_BYTES - 1] {
            let plaintext = text(n_chunks * CHUNK_BYTES + off);
            let stream = sealed(&plaintext);
            let n_sealed = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
            assert_eq!(stream.len(), HEADER_BYTES + plaintext.len() + n_sealed * TAG_BYTES);
            assert!(opened(&stream).unwrap() == plaintext);
        }
    }
}

#[test]
fn the_same_text_is_sealed_differently() {
    let [one, other] = [(); 2].map(|()| sealed(b"twice"));
    assert_ne!(one[15..47], other[15..47]);
    assert_ne!(one[HEADER_BYTES..], other[HEADER_BYTES..]);
}

#[test]
fn any_flipped_bit_is_an_error() {
    let plaintext = text(40);
    let stream = sealed(&plaintext);
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut damaged = stream.clone();
            damaged[at] ^= 1 << bit;
            let error = opened(&damaged).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn any_cut_is_an_error() {
    let stream = sealed(&text(2 * CHUNK_BYTES));
    let around = [0, 1, SEALED_BYTES - 1, SEALED_BYTES, SEALED_BYTES + 1, 2 * SEALED_BYTES - 1];
    let cuts = (0..HEADER_BYTES).chain(around.map(|n| HEADER_BYTES + n));
    for cut in cuts {
        let kind = opened(&stream[..cut]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof), "cut at {cut}");
    }
    // Between two chunks it is plain that the end is missing.
    let error = opened(&stream[..HEADER_BYTES + SEALED_BYTES]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let error = opened(&stream[..HEADER_BYTES]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn chunks_moved_repeated_or_appended_are_an_error() {
    let stream = sealed(&text(3 * CHUNK_BYTES));
    let (header, chunks) = stream.split_at(HEADER_BYTES);
    let chunks: Vec<&[u8]> = chunks.chunks(SEALED_BYTES).collect();
    let other = sealed(&text(3 * CHUNK_BYTES));
    let foreign = &other[HEADER_BYTES..HEADER_BYTES + SEALED_BYTES];
    for order in [
        vec![chunks[1], chunks[0], chunks[2]],
        vec![chunks[0], chunks[2]],
        vec![chunks[0], chunks[0], chunks[1], chunks[2]],
        vec![chunks[0], chunks[1], chunks[2], chunks[2]],
        vec![chunks[0], chunks[1], chunks[2], b"more"],
        vec![foreign, chunks[1], chunks[2]],
        vec![chunks[2]],
    ] {
        let stream = [header, &order.concat()].concat();
        assert_eq!(opened(&stream).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn another_key_is_told_before_anything_is_read() {
    let stream = sealed(b"text");
    let error = OpenReader::new(stream.as_slice(), &key(1)).err().unwrap();
    assert!(matches!(error, StreamError::WrongKey), "{error}");
}

#[test]
fn a_ring_opens_what_any_of_its_keys_sealed() {
    let kek =
        |n: u8| super::super::Kek::parse(key::format(&key(n).0).reveal_text().unwrap()).unwrap();
    let ring = |versions: &[u8], active| {
        let keys = versions.iter().map(|n| (u32::from(*n), kek(*n)));
        KeyRing::new(keys.collect(), active).unwrap()
    };
    let plaintext = text(CHUNK_BYTES + 1);
    let mut writer = SealWriter::with_ring(Vec::new(), &ring(&[1, 2], 1), UnixMicros(0)).unwrap();
    writer.write_all(&plaintext).unwrap();
    let stream = writer.finish().unwrap();
    let open = |stream: &[u8], ring: &KeyRing| {
        let mut found = Vec::new();
        OpenReader::with_ring(stream, ring)?.read_to_end(&mut found)?;
        Ok::<_, StreamError>(found)
    };
    assert!(open(&stream, &ring(&[1, 2], 2)).unwrap() == plaintext);
    let error = open(&stream, &ring(&[2], 2)).unwrap_err();
    assert!(matches!(error, StreamError::NoKey { version: 1, .. }), "{error}");
    let error = open(&sealed(b""), &ring(&[1], 1)).unwrap_err();
    assert!(matches!(error, StreamError::OtherKind(_)), "{error}");
    assert!(matches!(OpenReader::new(stream.as_slice(), &key(1)), Err(StreamError::OtherKind(_))));
    // Every byte of the header counts, the wrapped key and its version included.
    for at in 0..300 {
        let mut damaged = stream.clone();
        damaged[at] ^= 4;
        assert!(open(&damaged, &ring(&[1, 2], 2)).is_err(), "byte {at}");
    }
}

#[test]
fn other_files_and_formats_are_named() {
    for other in [&b""[..], b"short", &[0; 100], b"{\"json\": \"of some length, to be sure\"}"] {
        let error = OpenReader::new(other, &key(0)).err().unwrap();
        assert!(matches!(error, StreamError::NotSealed), "{error}");
    }
    let mut newer = sealed(b"text");
    newer[8] = 2;
    let error = OpenReader::new(newer.as_slice(), &key(0)).err().unwrap();
    assert!(matches!(error, StreamError::NewerFormat(2)), "{error}");
}

#[test]
fn errors_are_repeated() {
    let mut stream = sealed(&text(2 * CHUNK_BYTES));
    stream[HEADER_BYTES + SEALED_BYTES] ^= 1;
    let mut reader = OpenReader::new(stream.as_slice(), &key(0)).unwrap();
    let mut first = vec![0; CHUNK_BYTES];
    reader.read_exact(&mut first).unwrap();
    assert!(first == text(CHUNK_BYTES), "what is in front of the damage is read");
    for _ in 0..2 {
        assert_eq!(reader.read(&mut first).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn a_stream_without_its_end_is_cut_short() {
    let mut bytes = Vec::new();
    let mut writer = SealWriter::new(&mut bytes, &key(0)).unwrap();
    writer.write_all(&text(CHUNK_BYTES + 1)).unwrap();
    drop(writer);
    assert_eq!(opened(&bytes).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_failed_write_is_not_tried_again() {
    /// Takes the header and half a chunk.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let full = Full(HEADER_BYTES + CHUNK_BYTES / 2);
    let mut writer = SealWriter::new(full, &key(0)).unwrap();
    writer.write_all(&text(CHUNK_BYTES)).unwrap();
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::Other);
    assert!(writer.finish().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trip_in_any_pieces(
        n_bytes in 0..3 * CHUNK_BYTES,
        write in 1..100_000usize,
        read in 1..100_000usize,
        below in 1..100_000usize,
    ) {
        let plaintext = text(n_bytes);
        let below = below.max(n_bytes / 1000 + 1);
        let mut writer = SealWriter::new(Trickle(Vec::new(), below), &key(7)).unwrap();
        for piece in plaintext.chunks(write.max(n_bytes / 1000 + 1)) {
            writer.write_all(piece).unwrap();
        }
        let stream = writer.finish().unwrap().0;
        let mut reader = OpenReader::new(Trickle(stream.as_slice(), below), &key(7)).unwrap();
        let (mut found, mut piece) = (Vec::<u8>::new(), vec![0u8; read.max(n_bytes / 1000 + 1)]);
        loop {
            let n = reader.read(&mut piece).unwrap();
            if n == 0 { break; }
            found.extend(&piece[..n]);
        }
        prop_assert!(found == plaintext);
        prop_assert_eq!(reader.read(&mut piece).unwrap(), 0);
    }

    #[test]
    fn damage_anywhere_is_an_error(
        n_bytes in 0..2 * CHUNK_BYTES + 100,
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let stream = sealed(&text(n_bytes));
        let mut damaged = stream.clone();
        damaged[at.index(stream.len())] ^= 1 << bit;
        prop_assert!(opened(&damaged).is_err());
        prop_assert!(opened(&stream[..cut.index(stream.len())]).is_err());
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(opened(&bytes).is_err());
        let behind_magic = [b"AKGSEAL\n\x01\0\0\0\0".as_slice(), &bytes].concat();
        prop_assert!(opened(&behind_magic).is_err());
    }
}
