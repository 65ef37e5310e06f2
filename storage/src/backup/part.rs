//! The names of parts, and how rows are laid out in one.

/// First part of an archive.
pub(crate) const ABOUT: &str = "about.json";

/// Last part of an archive.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A part of rows is closed when it is this large, in bytes. A row is never split, so that a part
/// can be larger by one row.
pub(crate) const ROWS_BYTES: usize = 16 << 20;

/// Bytes before a row: the lengths of its key and its value, little-endian.
pub(crate) const ROW_HEADER: usize = 8;

/// What a part is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `tables/<table>.<number>.rows`: sound rows of a table, upwards.
    Rows { table: String, number: u32 },
    /// `damaged/<table>.<number>.rows`: rows that do not decode, kept for whoever can read them.
    Damaged { table: String, number: u32 },
    /// `blobs/..`: a file of the data directory.
    File,
    /// The last one.
    Manifest,
}

impl Kind {
    /// What the part `name` is; `None` if a backup has none of this name.
    pub(crate) fn of(name: &str) -> Option<Kind> {
        if name == MANIFEST {
            return Some(Kind::Manifest);
        }
        if is_file(name) {
            return Some(Kind::File);
        }
        let (folder, file) = name.split_once('/')?;
        let (table, number) = file.strip_suffix(".rows")?.rsplit_once('.')?;
        let number = number.parse().ok()?;
        let table = table.to_owned();
        let kind = match folder {
            "tables" => Kind::Rows { table, number },
            "damaged" => Kind::Damaged { table, number },
            _ => return None,
        };
        // Nothing but the one way to write it.
        (kind.rows_name()? == name).then_some(kind)
    }

    /// The name of a part of rows.
    pub(crate) fn rows_name(&self) -> Option<String> {
        match self {
            Kind::Rows { table, number } => Some(format!("tables/{table}.{number:06}.rows")),
            Kind::Damaged { table, number } => Some(format!("damaged/{table}.{number:06}.rows")),
            Kind::File | Kind::Manifest => None,
        }
    }
}

/// Whether `name` may be a file of an archive: `blobs/` and two more components.
pub(crate) fn is_file(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut components = name.split('/');
    let (folder, head, rest) = (components.next(), components.next(), components.next());
    let (Some("blobs"), Some(head), Some(rest), None) = (folder, head, rest, components.next())
    else {
        return false;
    };
    head.len() == 2 && rest.len() == 62 && hex(head) && hex(rest)
}

/// Adds a row to the bytes of a part.
pub(crate) fn push_row(part: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Keys and values have far lower limits: see `codec`.
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    part.extend_from_slice(&length(key));
    part.extend_from_slice(&length(value));
    part.extend_from_slice(key);
    part.extend_from_slice(value);
}

/// The lengths of a row's key and value.
pub(crate) fn row_lengths(header: [u8; ROW_HEADER]) -> (usize, usize) {
    let [a, b, c, d, e, f, g, h] = header;
    (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_parts_are() {
        let rows = Kind::Rows { table: "graph.nodes".to_owned(), number: 12 };
        assert_eq!(rows.rows_name().as_deref(), Some("tables/graph.nodes.000012.rows"));
        assert_eq!(Kind::of("tables/graph.nodes.000012.rows"), Some(rows));
        let damaged = Kind::Damaged { table: "meta".to_owned(), number: 0 };
        assert_eq!(Kind::of("damaged/meta.000000.rows"), Some(damaged));
        assert_eq!(Kind::of(MANIFEST), Some(Kind::Manifest));
        assert_eq!(Kind::of(&format!("blobs/a0/{}", "b".repeat(62))), Some(Kind::File));
        for name in ["about.json", "tables/x.rows", "tables/x.1.rows", "tables/x.+00001.rows"] {
            assert_eq!(Kind::of(name), None, "{name}");
        }
        assert_eq!(Kind::of(&format!("blobs/A0/{}", "b".repeat(62))), None);
        assert_eq!(Kind::of("blobs/a0/../../../x"), None);
    }
}
