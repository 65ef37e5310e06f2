//! Stores whose medium fails writes: what was acknowledged can be read all the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{add_count, count};
use activekg_storage::{StorageError, Store, StoreOptions};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

/// A medium that several look at, and whose writes fail from some instant on.
#[derive(Debug, Clone, Default)]
struct Medium {
    bytes: Arc<Mutex<Vec<u8>>>,
    failing: Arc<AtomicBool>,
}

impl Medium {
    fn written(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("the cable is out"));
        }
        Ok(())
    }

    /// What is on it now, for one who writes to nobody.
    fn copy(&self) -> InMemoryBackend {
        let copy = InMemoryBackend::new();
        let bytes = self.bytes.lock().unwrap();
        copy.set_len(bytes.len() as u64).unwrap();
        copy.write(0, &bytes).unwrap();
        copy
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = offset as usize;
        out.copy_from_slice(bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written()?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.written()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written()?;
        let from = offset as usize;
        self.bytes.lock().unwrap()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

#[test]
fn reads_go_on_after_a_write_has_failed() {
    let medium = Medium::default();
    let second = medium.clone();
    let store =
        Store::open_faulty(medium.clone(), move || second.copy(), StoreOptions::default()).unwrap();
    let acknowledged = store.write_blocking(|tx| add_count(tx, &tenant(), "n", 7)).unwrap();
    assert!(store.fault().is_none());

    medium.failing.store(true, Ordering::SeqCst);
    let refused = store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1));
    assert!(matches!(refused, Err(StorageError::Unavailable { .. })), "{refused:?}");
    assert!(matches!(store.fault(), Some(StorageError::Unavailable { .. })));
    assert_eq!(count(&store.read().unwrap(), &tenant(), "n").unwrap(), 7);
    assert_eq!(store.last_seq(), acknowledged.seq);

    // The medium is well again, but nobody knows what is on it: only opening it anew tells.
    medium.failing.store(false, Ordering::SeqCst);
    let refused = store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1));
    assert!(matches!(refused, Err(StorageError::Unavailable { .. })), "{refused:?}");
    assert_eq!(count(&store.read().unwrap(), &tenant(), "n").unwrap(), 7);
}
