//! Commands and replies as bytes: version 2 of the protocol that Redis clients speak.

/// Most bytes of a command that is not complete.
const COMMAND_MAX: usize = 4 << 20;
/// Most bytes of a line.
const LINE_MAX: usize = 64 << 10;
/// Most arguments of a command, its name included.
const ARGUMENTS_MAX: usize = 1024;
/// Most bytes of an argument.
const ARGUMENT_MAX: usize = 1 << 20;

/// A command: its name and its arguments.
pub(super) type Words = Vec<Vec<u8>>;

/// Bytes that are no command. Nothing after them can be told apart, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotACommand {
    #[error("Protocol error: too big a request")]
    TooLarge,
    #[error("Protocol error: invalid multibulk length")]
    Count,
    #[error("Protocol error: expected '$'")]
    Dollar,
    #[error("Protocol error: invalid bulk length")]
    Length,
    #[error("Protocol error: unbalanced quotes or missing line end")]
    Line,
}

/// Cuts a stream of bytes into commands.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they come.
    ///
    /// # Errors
    ///
    /// [`NotACommand::TooLarge`] when too many wait.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), NotACommand> {
        if self.bytes.len() + bytes.len() > COMMAND_MAX {
            return Err(NotACommand::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole command; nothing until there is one. Empty lines are passed over.
    ///
    /// # Errors
    ///
    /// [`NotACommand`].
    pub(super) fn next(&mut self) -> Result<Option<Words>, NotACommand> {
        loop {
            let mut cut = Cut { bytes: &self.bytes, at: 0 };
            let Some(words) = cut.command()? else { return Ok(None) };
            let used = cut.at;
            self.bytes.drain(..used);
            if !words.is_empty() {
                return Ok(Some(words));
            }
        }
    }
}

struct Cut<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cut<'a> {
    fn command(&mut self) -> Result<Option<Words>, NotACommand> {
        if self.bytes.get(self.at) != Some(&b'*') {
            let Some(line) = self.line()? else { return Ok(None) };
            return Ok(Some(words_of(line)?));
        }
        let Some(line) = self.line()? else { return Ok(None) };
        let n = number(&line[1..]).ok_or(NotACommand::Count)?;
        if n > ARGUMENTS_MAX as i64 {
            return Err(NotACommand::Count);
        }
        let mut words = Vec::new();
        for _ in 0..n.max(0) {
            let Some(word) = self.bulk()? else { return Ok(None) };
            words.push(word.to_vec());
        }
        Ok(Some(words))
    }

    fn bulk(&mut self) -> Result<Option<&'a [u8]>, NotACommand> {
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((b'$', digits)) = line.split_first() else { return Err(NotACommand::Dollar) };
        let length = number(digits).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= ARGUMENT_MAX).ok_or(NotACommand::Length)?;
        let Some(word) = self.bytes.get(self.at..self.at + length) else { return Ok(None) };
        match self.bytes.get(self.at + length..self.at + length + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                self.at += length + 2;
                Ok(Some(word))
            }
            Some(_) => Err(NotACommand::Length),
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<&'a [u8]>, NotACommand> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().take(LINE_MAX + 1).position(|byte| *byte == b'\n') else {
            return if rest.len() > LINE_MAX { Err(NotACommand::TooLarge) } else { Ok(None) };
        };
        self.at += end + 1;
        Ok(Some(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end])))
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The words of a command that was typed, as through netcat. Quotes keep blanks together.
fn words_of(line: &[u8]) -> Result<Words, NotACommand> {
    let (mut words, mut word, mut quote): (Words, Option<Vec<u8>>, Option<u8>) =
        (Vec::new(), None, None);
    for byte in line.iter().copied() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b' ' | b'\t') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        return Err(NotACommand::Line);
    }
    words.extend(word);
    if words.len() > ARGUMENTS_MAX { Err(NotACommand::Count) } else { Ok(words) }
}

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done.
    Simple(&'static str),
    /// Refused; the text begins with the kind, such as `ERR`.
    Error(String),
    /// A number.
    Integer(i64),
    /// A text, or nothing.
    Bulk(Option<String>),
    /// Several.
    Array(Vec<Reply>),
}

impl Reply {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Some(text.into()))
    }

    pub(super) fn refused(text: impl std::fmt::Display) -> Self {
        Self::Error(format!("ERR {text}"))
    }

    pub(super) fn count(n: u64) -> Self {
        Self::Integer(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Adds the reply's bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Self::Error(text) => {
                // An end of line would end the reply.
                let text = text.replace(['\r', '\n'], " ");
                out.extend_from_slice(format!("-{text}\r\n").as_bytes());
            }
            Self::Integer(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
            Self::Bulk(None) => out.extend_from_slice(b"$-1\r\n"),
            Self::Bulk(Some(text)) => {
                out.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
            }
            Self::Array(replies) => {
                out.extend_from_slice(format!("*{}\r\n", replies.len()).as_bytes());
                replies.iter().for_each(|reply| reply.write(out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<Words>, NotACommand> {
        let mut decoder = Decoder::default();
        decoder.add(bytes)?;
        let mut commands = Vec::new();
        while let Some(words) = decoder.next()? {
            commands.push(words);
        }
        Ok(commands)
    }

    #[test]
    fn typed_lines_are_words() {
        let typed = all(b"PING\r\n\r\n  LLEN \"a b\"\t'c' \n").unwrap();
        let expected: [&[&[u8]]; 2] = [&[b"PING"], &[b"LLEN", b"a b", b"c"]];
        assert_eq!(typed, expected);
        assert_eq!(all(b"GET \"a\r\n"), Err(NotACommand::Line));
    }

    #[test]
    fn what_is_no_command_is_refused_before_it_takes_memory() {
        for (bytes, why) in [
            (&b"*1025\r\n"[..], NotACommand::Count),
            (b"*x\r\n", NotACommand::Count),
            (b"*1\r\n:1\r\n", NotACommand::Dollar),
            (b"*1\r\n\r\n", NotACommand::Dollar),
            (b"*1\r\n$-1\r\n", NotACommand::Length),
            (b"*1\r\n$1048577\r\n", NotACommand::Length),
            (b"*1\r\n$1\r\nabc", NotACommand::Length),
            (b"*99999999999999999999\r\n", NotACommand::Count),
        ] {
            assert_eq!(all(bytes), Err(why), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(all(&[b'a'; LINE_MAX + 1]), Err(NotACommand::TooLarge));
        assert_eq!(all(&vec![b'\n'; COMMAND_MAX + 1]), Err(NotACommand::TooLarge));
    }

    #[test]
    fn replies_are_framed() {
        let reply = Reply::Array(vec![
            Reply::Simple("OK"),
            Reply::refused("a\r\n+OK"),
            Reply::Integer(-1),
            Reply::Bulk(None),
            Reply::text("é"),
        ]);
        let mut out = Vec::new();
        reply.write(&mut out);
        let expected = "*5\r\n+OK\r\n-ERR a  +OK\r\n:-1\r\n$-1\r\n$2\r\né\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn commands_are_cut_wherever_the_parts_end(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..5), 1..5),
            size in 1_usize..40,
        ) {
            let bytes: Vec<u8> = commands.iter().flat_map(|words| encoded(words)).collect();
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            for part in bytes.chunks(size) {
                decoder.add(part).unwrap();
                while let Some(words) = decoder.next().unwrap() {
                    found.push(words);
                }
            }
            prop_assert_eq!(found, commands);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any = all(&bytes);
            let mut framed = b"*2\r\n$3\r\n".to_vec();
            framed.extend_from_slice(&bytes);
            let _any = all(&framed);
        }
    }
}
