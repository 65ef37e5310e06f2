//! A row of any table, read from bytes that a faulty program wrote: key, then a value whose checksum
//! fits. It must be a row or an error; never a panic, never more memory than libFuzzer allows.
#![no_main]

use activekg_storage::tables;
use libfuzzer_sys::fuzz_target;

// The first byte chooses the table, the second the format, the third the length of the key.
fuzz_target!(|input: &[u8]| {
    let [table, format, key_len, rest @ ..] = input else { return };
    let tables: Vec<_> = tables::all().collect();
    let table = tables[usize::from(*table) % tables.len()];
    let (key, body) = rest.split_at(rest.len().min(usize::from(*key_len)));
    let sum = crc32c::crc32c(key);
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &[*format]), body);
    let value = [&[*format], &sum.to_le_bytes()[..], body].concat();
    // `check` would turn a panic into an error, but libFuzzer's hook ends the process before that.
    drop(table.check(key, &value));
    // And as it is, checksum and all.
    drop(table.check(key, body));
});
