//! Reading event streams, as the HTML standard defines them (9.2.6, "Interpreting an event
//! stream"), as far as their data goes.

/// A line or the data of an event is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Takes an event stream apart, whatever pieces it comes in.
#[derive(Debug)]
pub struct Events {
    line: Vec<u8>,
    /// Lines of data of the event at hand, each with a line feed behind it.
    data: Vec<u8>,
    /// The last byte was a carriage return, which ended a line: a line feed now ends no other.
    after_return: bool,
    /// Nothing has been read yet, so that a byte order mark may come.
    fresh: bool,
    limit: usize,
}

impl Events {
    /// A reader of events with at most `limit` bytes of data.
    pub fn new(limit: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), after_return: false, fresh: true, limit }
    }

    /// Reads on; the data of the events that are now complete, in order. Comments, names, ids and
    /// events without data are left out. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; the stream makes no sense after that.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() >= self.limit => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    /// The data of an event that the stream ended in. The standard drops it; some services leave
    /// the last blank line out.
    pub fn finish(mut self) -> Result<Option<String>, TooLong> {
        let last = self.end_line()?;
        Ok(last.or_else(|| self.end_event()))
    }

    fn end_line(&mut self) -> Result<Option<String>, TooLong> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if std::mem::take(&mut self.fresh) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let data = match line.strip_prefix(b"data") {
            Some([]) => [].as_slice(),
            Some([b':', b' ', data @ ..] | [b':', data @ ..]) => data,
            // A comment, or another field.
            Some(_) | None => return Ok(None),
        };
        if self.data.len() + data.len() > self.limit {
            return Err(TooLong);
        }
        self.data.extend_from_slice(data);
        self.data.push(b'\n');
        Ok(None)
    }

    fn end_event(&mut self) -> Option<String> {
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        Some(String::from_utf8_lossy(&data).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::new(1000);
        let mut found = Vec::new();
        for piece in pieces {
            found.extend(events.feed(piece).unwrap());
        }
        found.extend(events.finish().unwrap());
        found
    }

    #[test]
    fn data_is_taken_out_of_events() {
        let stream = b"\xEF\xBB\xBFdata: one\n\n: comment\nevent: x\nid: 7\nretry: 10\ndata:two\ndata:  three\n\ndata\n\n\n\ndatum: no\n\ndata: last";
        assert_eq!(read(&[stream]), ["one", "two\n three", "", "last"]);
        assert_eq!(read(&[b""]), [""; 0]);
        assert_eq!(read(&[b": only a comment\n\n"]), [""; 0]);
        assert_eq!(read(&[b"data: \xFF\n\n"]), ["\u{FFFD}"]);
    }

    #[test]
    fn every_kind_of_line_end_counts_even_when_cut_in_two() {
        assert_eq!(read(&[b"data: a\r\n\r\ndata: b\r\rdata: c\n\n"]), ["a", "b", "c"]);
        assert_eq!(read(&[b"data: a\r", b"\n\r", b"\ndata: b\r", b"\r", b"\n"]), ["a", "b"]);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut events = Events::new(10);
        assert_eq!(events.feed(b"data: 3456\n\n"), Ok(vec!["3456".to_owned()]));
        assert_eq!(events.feed(b"data: 34567"), Err(TooLong));
        let mut events = Events::new(10);
        assert_eq!(events.feed(b"data:12345\ndata:12345\n"), Err(TooLong));
    }

    proptest! {
        /// However a stream is cut into pieces, its events are the same.
        #[test]
        fn pieces_do_not_matter(
            stream in "(data: ?[ab:é]{0,3}(\r\n|\r|\n){1,2}|: x\n|event: e\r\n|\n|\r){0,12}",
            cuts in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[bytes]));
        }

        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut events = Events::new(50);
            let _ = events.feed(&bytes).and_then(|_| events.finish());
        }
    }
}
