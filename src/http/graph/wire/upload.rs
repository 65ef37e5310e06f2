//! Uploads: the form, and what became of its files.

use serde::Serialize;
use serde_json::{Map, Value};

use super::node::classes;
use super::{is_blank, tenant};
use crate::http::multipart::{FormInput, Part};
use crate::http::validate::{At, Checked, Item};

/// Labels of documents whose form names none.
const CLASSES: [&str; 2] = ["Document", "Resume"];
/// Characters of a wrong field that the fault quotes.
const QUOTED_MAX: usize = 1000;

/// Form of POST /upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// 1 or more.
    pub files: Vec<UploadFile>,
    /// 1 to 10 labels of at most 100 characters.
    pub classes: Vec<String>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

/// A file of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadFile {
    /// Its name, without control characters.
    pub name: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// All of it.
    pub bytes: bytes::Bytes,
}

impl FormInput for Upload {
    fn parse(parts: Vec<Part>) -> Checked<Self> {
        let (mut files, mut faults, mut words) = (Vec::new(), Vec::new(), Map::new());
        let mut n_files = 0_usize;
        for part in parts {
            if part.field != "files" {
                // Of fields of one name the last counts.
                words.insert(part.field.clone(), part.text().into());
                continue;
            }
            match part.file {
                Some(name) => {
                    let name = name.chars().filter(|c| !c.is_control()).collect();
                    let Part { content_type, content: bytes, .. } = part;
                    files.push(UploadFile { name, content_type, bytes });
                }
                None => faults.push(not_a_file(n_files, &part.text())),
            }
            n_files += 1;
        }
        if n_files == 0 {
            let loc = vec!["body".into(), "files".into()];
            faults.push(Item::new("missing", loc, "Field required", Value::Null));
        }
        let words = Value::Object(words);
        let mut fields = At::body(&words).fields()?;
        let default = || CLASSES.map(str::to_owned).to_vec();
        let classes = fields.optional("classes", default(), |at| {
            let list = list(&at.string()?);
            if list.is_empty() { Ok(default()) } else { at.instead(&list.into(), classes) }
        });
        let tenant_id = fields.optional("tenant_id", None, tenant);
        faults.extend(fields.finish().err().into_iter().flatten());
        if faults.is_empty() { Ok(Self { files, classes, tenant_id }) } else { Err(faults) }
    }
}

/// A field where a file is expected, the `index`th of its name.
fn not_a_file(index: usize, text: &str) -> Item {
    let loc = vec!["body".into(), "files".into(), index.into()];
    let quoted: String = text.chars().take(QUOTED_MAX).collect();
    // The words are those that clients know.
    let message = "Value error, Expected UploadFile, received: <class 'str'>";
    Item::new("value_error", loc, message, quoted.into())
        .with_ctx(serde_json::json!({ "error": {} }))
}

/// The words between commas.
fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(|word| word.trim_matches(is_blank));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Answer of POST /upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UploadAnswer {
    /// Files that are documents now.
    pub uploaded: usize,
    /// Files that are not.
    pub skipped: usize,
    /// Chunks that the documents have.
    pub chunks_created: usize,
    /// Jobs that are reported; none where the upload waits for them.
    pub embeddings_queued: usize,
    /// In the order they were sent.
    pub files: Vec<UploadedFile>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UploadedFile {
    /// Its name.
    pub filename: String,
    /// Chunks it has.
    pub chunks: usize,
    /// `ok`, `skipped`, or `error: ` and why.
    pub status: String,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(field: &str, file: Option<&str>, content: &str) -> Part {
        Part {
            field: field.to_owned(),
            file: file.map(str::to_owned),
            content_type: None,
            content: content.to_owned().into(),
        }
    }

    fn parse(parts: &[Part]) -> Result<Upload, Value> {
        Upload::parse(parts.to_vec()).map_err(|faults| faults.iter().map(Item::to_value).collect())
    }

    #[test]
    fn a_form_has_files_and_may_have_classes() {
        let file = part("files", Some("a\0\r.txt"), "x");
        let upload = parse(std::slice::from_ref(&file)).expect("a form");
        assert_eq!(upload.classes, ["Document", "Resume"]);
        assert_eq!(upload.files[0].name, "a.txt");
        for (sent, meant) in
            [(" Report,, Site ", vec!["Report", "Site"]), (" , ", vec!["Document", "Resume"])]
        {
            let form = [part("classes", None, sent), part("tenant_id", None, "t"), file.clone()];
            let upload = parse(&form).expect("a form");
            assert_eq!(upload.classes, meant);
            assert_eq!(upload.tenant_id.as_deref(), Some("t"));
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let fault = parse(&[]).expect_err("no file");
        assert_eq!(
            fault,
            json!([{"type": "missing", "loc": ["body", "files"], "msg": "Field required", "input": null}])
        );
        let many = ["x"; 11].join(",");
        let form = [
            part("files", Some("a"), "x"),
            part("files", None, "text"),
            part("classes", None, &many),
            part("tenant_id", None, "\0"),
        ];
        let faults = parse(&form).expect_err("three faults");
        let places: Vec<&Value> =
            faults.as_array().expect("a list").iter().map(|fault| &fault["loc"]).collect();
        assert_eq!(
            places,
            [
                &json!(["body", "files", 1]),
                &json!(["body", "classes"]),
                &json!(["body", "tenant_id"])
            ]
        );
    }
}
