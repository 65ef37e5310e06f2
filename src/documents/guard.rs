//! Extraction under guard.
//!
//! A parser of a complex format is run by a process of its own: this program once more, with a
//! subcommand that no help page shows. That process bounds its own memory and processor time before
//! it reads the first byte, gets the file on its standard input, has no environment, and is killed
//! at the deadline or when nobody waits for it any more. So a parser that loops, asks for all
//! memory, overruns its stack or panics costs one file and nothing else. At most as many run at a
//! time as there are cores.
//!
//! What such a process writes last is its verdict: the text, the text's length in 8 bytes, and one
//! byte that is 0 or one more than the number of a [`NoText`]. Anything before is noise.

pub mod child;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::extract::{self, Source};
use super::{Kind, Limits, NoText};

/// Longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes that a parser may write besides the text.
const NOISE_MAX: u64 = 64 * 1024;
/// Bytes after the text.
const VERDICT: usize = 9;

/// Reads files, as many at a time as there are cores.
#[derive(Debug, Clone)]
pub struct Extractor {
    limits: Limits,
    program: Option<PathBuf>,
    turns: Arc<Semaphore>,
}

impl Extractor {
    /// With `program`, which is this program, for the formats that need a process of their own;
    /// without it files of these formats are not read.
    #[must_use]
    pub fn new(limits: Limits, program: Option<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { limits, program, turns: Arc::new(Semaphore::new(cores)) }
    }

    /// The path by which a process starts itself once more, even after its file was replaced.
    #[must_use]
    pub fn this_program() -> Option<PathBuf> {
        let own = Path::new("/proc/self/exe");
        if own.exists() {
            return Some(own.to_owned());
        }
        // Without /proc the command line tells, if it does so with a path.
        let named =
            || std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
        std::env::current_exe().ok().or_else(named)
    }

    /// The bounds of each extraction.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The text of a file, which is not blank.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn text(
        &self,
        kind: Kind,
        charset: Option<String>,
        bytes: Bytes,
    ) -> Result<String, NoText> {
        let turn = timeout(WAIT_MAX, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| NoText::Busy)?.map_err(|_| NoText::Busy)?;
        if kind.is_guarded() && !bytes.is_empty() {
            let text = timeout(self.limits.timeout, self.guarded(kind, &bytes)).await;
            return text.unwrap_or(Err(NoText::Timeout));
        }
        let limits = self.limits;
        let work = move || {
            let _turn = turn;
            extract::text(Source { kind, charset: charset.as_deref(), bytes: &bytes }, &limits)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(NoText::Crashed))
    }

    /// Has another process read the file.
    async fn guarded(&self, kind: Kind, bytes: &[u8]) -> Result<String, NoText> {
        let program = self.program.as_ref().ok_or(NoText::NotStarted)?;
        let mut child = self.start(program, kind).map_err(|_| NoText::NotStarted)?;
        let most = self.limits.text_bytes.saturating_add(NOISE_MAX + VERDICT as u64);
        let said = talk(&mut child, bytes, most).await.map_err(|_| NoText::Crashed)?;
        // With that it is done, whatever it still does.
        let _ = child.kill().await;
        verdict(said)
    }

    fn start(&self, program: &Path, kind: Kind) -> std::io::Result<Child> {
        Command::new(program)
            .args(child::arguments(kind, &self.limits))
            .env_clear()
            .envs(child::ENVIRONMENT.map(|(name, value)| (OsString::from(name), value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Sends the file and takes what comes back, which is no more than `most` bytes.
async fn talk(child: &mut Child, bytes: &[u8], most: u64) -> std::io::Result<Vec<u8>> {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let send = async move {
        if let Some(stdin) = &mut stdin {
            // A parser may stop reading early; its verdict tells why.
            let _ = stdin.write_all(bytes).await;
        }
        drop(stdin);
    };
    let take = async move {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(most).read_to_end(&mut said).await?;
        }
        Ok(said)
    };
    let ((), said) = futures_util::future::join(send, take).await;
    said
}

/// What a process has come to.
fn verdict(mut said: Vec<u8>) -> Result<String, NoText> {
    let Some(text) = said.len().checked_sub(VERDICT) else { return Err(NoText::Crashed) };
    let Some((length, &[code])) = said[text..].split_first_chunk::<8>() else {
        return Err(NoText::Crashed);
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| NoText::Crashed)?;
    if code > 0 {
        let reason = NoText::ALL.get(usize::from(code) - 1);
        return Err(reason.copied().unwrap_or(NoText::Crashed));
    }
    let start = text.checked_sub(length).ok_or(NoText::Crashed)?;
    said.truncate(text);
    said.drain(..start);
    String::from_utf8(said).map_err(|_| NoText::Crashed)
}

/// The end of what [`verdict`] reads.
fn sealed(length: usize, code: u8) -> [u8; VERDICT] {
    let mut end = [code; VERDICT];
    end[..8].copy_from_slice(&(length as u64).to_le_bytes());
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            timeout: Duration::from_secs(30),
            memory_bytes: 1 << 28,
            expanded_bytes: 1 << 20,
            text_bytes: 1000,
        }
    }

    #[test]
    fn verdicts_come_last() {
        let said =
            |text: &str, code| [b"noise", text.as_bytes(), &sealed(text.len(), code)].concat();
        assert_eq!(verdict(said("a text", 0)).as_deref(), Ok("a text"));
        for (number, reason) in (1_u8..).zip(NoText::ALL) {
            assert_eq!(verdict(said("", number)), Err(reason));
        }
        for broken in [
            Vec::new(),
            b"a text".to_vec(),
            sealed(5, 0).to_vec(),
            sealed(usize::MAX, 0).to_vec(),
            said("", 200),
            [b"\xff".as_slice(), &sealed(1, 0)].concat(),
        ] {
            assert_eq!(verdict(broken), Err(NoText::Crashed));
        }
    }

    #[tokio::test]
    async fn simple_formats_need_no_process_and_others_are_refused_without_one() {
        let extractor = Extractor::new(limits(), None);
        let text = |kind, bytes| extractor.text(kind, None, Bytes::from_static(bytes));
        assert_eq!(text(Kind::Text, b" a ").await.as_deref(), Ok(" a "));
        assert_eq!(text(Kind::Html, b"<p>a<p>b").await.as_deref(), Ok("a\n\nb"));
        assert_eq!(text(Kind::Text, b"").await, Err(NoText::Empty));
        assert_eq!(text(Kind::Pdf, b"").await, Err(NoText::Empty));
        assert_eq!(text(Kind::Text, b" \n").await, Err(NoText::Blank));
        assert_eq!(text(Kind::Pdf, b"%PDF-1.4").await, Err(NoText::NotStarted));
        let missing = Extractor::new(limits(), Some("/no/such/program".into()));
        let refused = missing.text(Kind::Pdf, None, Bytes::from_static(b"%PDF-1.4")).await;
        assert_eq!(refused, Err(NoText::NotStarted));
    }

    #[tokio::test]
    async fn a_process_that_does_not_do_its_part_costs_its_file() {
        // Ends at once and says nothing of use, whatever its arguments.
        let silent = Extractor::new(limits(), Some("/bin/false".into()));
        let bytes = Bytes::from(vec![0; 1 << 20]);
        assert_eq!(silent.text(Kind::Pdf, None, bytes.clone()).await, Err(NoText::Crashed));
        // Never ends and says the same for ever, whatever its arguments.
        let limits =
            Limits { timeout: Duration::from_millis(20), text_bytes: u64::MAX, ..limits() };
        let endless = Extractor::new(limits, Some("/usr/bin/yes".into()));
        assert_eq!(endless.text(Kind::Pdf, None, bytes).await, Err(NoText::Timeout));
    }
}
