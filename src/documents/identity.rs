//! The names of documents and chunks. The same document has the same name and id wherever and
//! whenever it is read, which is what makes taking it in again an update.

use activekg_storage::ids::{NodeId, TenantId};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The name of a document: where it comes from, whose it is, and which one it is there.
///
/// Ids are made of names, and ids are unique across tenants. So colons in a tenant's name are
/// written as `%3A`, and percent signs as `%25`: else the name of one tenant's document could be
/// that of another tenant's.
#[must_use]
pub fn external_id(source: &str, tenant: &TenantId, rest: &str) -> String {
    let tenant = tenant.as_str().replace('%', "%25").replace(':', "%3A");
    format!("{source}:{tenant}:{rest}")
}

/// The name of an uploaded file: files of one name with other texts are other documents.
#[must_use]
pub fn of_upload(tenant: &TenantId, file: &str, text_sha256: &str) -> String {
    external_id("upload", tenant, &format!("{file}:{}", &text_sha256[..16]))
}

/// The name of a document's chunk, the first being 0.
#[must_use]
pub fn chunk(document: &str, index: usize) -> String {
    format!("{document}#chunk{index}")
}

/// The number of the chunk of `document` that is called `name`, if it is one.
#[must_use]
pub fn chunk_index(document: &str, name: &str) -> Option<usize> {
    name.strip_prefix(document)?.strip_prefix("#chunk")?.parse().ok()
}

/// The id of the node of this name: UUID version 5 in the namespace of URLs.
#[must_use]
pub fn node_id(external_id: &str) -> NodeId {
    NodeId::from_uuid(Uuid::new_v5(&Uuid::NAMESPACE_URL, external_id.as_bytes()))
}

/// The SHA-256 of a text, in hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a tenant")
    }

    #[test]
    fn ids_are_those_that_clients_know() {
        for (name, id) in [
            ("upload:default:a.txt:0123456789abcdef", "b9e5b0b7-372e-5723-9b19-aa3556d604bf"),
            ("gcs:acme:docs-bucket/a/b.pdf", "c8c4bf91-edc3-526f-98c4-887abcac51de"),
            ("gcs:acme:docs-bucket/a/b.pdf#chunk0", "dfc11495-1a5f-551f-af74-0a9d32231ff4"),
            ("s3:default:my-bucket/reports/q1 2026.txt", "586d5e56-d63d-5929-bbad-5df31c16ff97"),
            ("drive:default:1AbC", "ff630b69-c659-5139-898b-21dd6013d9c8"),
        ] {
            assert_eq!(node_id(name).to_string(), id, "{name}");
        }
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(sha256("hello"), hash);
        assert_eq!(
            of_upload(&tenant("default"), "a.txt", hash),
            "upload:default:a.txt:2cf24dba5fb0a30e"
        );
    }

    #[test]
    fn no_two_tenants_share_a_name() {
        let ours = external_id("upload", &tenant("a:b"), "c");
        assert_ne!(ours, external_id("upload", &tenant("a"), "b:c"));
        assert_ne!(ours, external_id("upload", &tenant("a%3Ab"), "c"));
        assert_eq!(ours, "upload:a%3Ab:c");
    }

    #[test]
    fn chunks_know_their_number() {
        assert_eq!(chunk_index("d", &chunk("d", 12)), Some(12));
        assert_eq!(chunk_index("d", "d#chunkx"), None);
        assert_eq!(chunk_index("d", "d2#chunk1"), None);
    }
}
