//! The other side: a process that reads one file and ends.

use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::sealed;
use crate::documents::extract::{self, Source};
use crate::documents::{Kind, Limits, NoText};

/// The subcommand.
pub const COMMAND: &str = "extract-text";

/// All of the process's environment. The allocator would otherwise reserve addresses in advance,
/// which would count as memory.
pub(super) const ENVIRONMENT: [(&str, &str); 2] =
    [("MIMALLOC_ARENA_RESERVE", "16MiB"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// What a process is taken to start with where the system does not tell, in bytes.
const UNKNOWN: u64 = 512 << 20;

/// The command line that makes this program read a file.
pub(super) fn arguments(kind: Kind, limits: &Limits) -> [String; 6] {
    let Limits { timeout, memory_bytes, expanded_bytes, text_bytes } = limits;
    // A process that computes all the time gets to its deadline by the clock first.
    let seconds = timeout.as_secs().saturating_add(1);
    [
        COMMAND.to_owned(),
        kind.as_str().to_owned(),
        seconds.to_string(),
        memory_bytes.to_string(),
        expanded_bytes.to_string(),
        text_bytes.to_string(),
    ]
}

/// Reads the file on the standard input and writes the verdict on the standard output.
///
/// # Errors
///
/// When the limits cannot be set, or the input or output fails. Then there is no verdict.
pub fn run(kind: &str, limits: &Limits) -> io::Result<()> {
    let kind = Kind::named(kind).ok_or_else(|| io::Error::other("no such kind of file"))?;
    hold_in(limits)?;
    // What went wrong is told by the verdict; a message would quote from the file.
    std::panic::set_hook(Box::new(|_| {}));
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let source = Source { kind, charset: None, bytes: &bytes };
    let text = catch_unwind(AssertUnwindSafe(|| extract::text(source, limits)));
    let (text, code) = match text.unwrap_or(Err(NoText::Damaged)) {
        Ok(text) => (text, 0),
        Err(reason) => {
            let number = NoText::ALL.iter().position(|known| *known == reason).unwrap_or(0);
            (String::new(), u8::try_from(number + 1).unwrap_or(u8::MAX))
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(&sealed(text.len(), code))?;
    stdout.flush()
}

/// Bounds this process: addresses and processor time as told; no file may be written, also not by
/// a crash.
fn hold_in(limits: &Limits) -> io::Result<()> {
    let Limits { timeout, memory_bytes, expanded_bytes: _, text_bytes: _ } = limits;
    let addresses = memory_bytes.saturating_add(own_addresses().unwrap_or(UNKNOWN));
    for (resource, most) in [
        (Resource::As, addresses),
        (Resource::Cpu, timeout.max(&Duration::from_secs(1)).as_secs()),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Bytes of addresses that this process has now: the program itself, mostly.
fn own_addresses() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
