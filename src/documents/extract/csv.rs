//! Tables as text: a row a line, tabs between cells.

use ::csv::{ReaderBuilder, StringRecord};

use super::write::Writer;
use crate::documents::{Limits, NoText};

/// What may stand between cells; of equally many the first counts, for commas stand within cells as
/// well.
const DELIMITERS: [u8; 4] = [b';', b'\t', b'|', b','];
/// Bytes at the start that tell the delimiter.
const LOOKED_AT: usize = 4096;

/// The cells of a table, without their quotes.
pub(super) fn text(table: &str, limits: &Limits) -> Result<String, NoText> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter(table.as_bytes()))
        .from_reader(table.as_bytes());
    let mut out = Writer::new(limits.text_bytes);
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(|_| NoText::Damaged)? {
        for cell in &row {
            out.words(cell)?;
            out.cell();
        }
        out.line();
    }
    Ok(out.finish())
}

/// The delimiter that the first line has most of, outside quotes.
fn delimiter(table: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in &table[..table.len().min(LOOKED_AT)] {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            byte if !quoted => {
                if let Some(found) = DELIMITERS.iter().position(|delimiter| delimiter == byte) {
                    counts[found] += 1;
                }
            }
            _ => {}
        }
    }
    let most = (0..counts.len()).rev().max_by_key(|index| counts[*index]).unwrap_or(0);
    DELIMITERS[most]
}
