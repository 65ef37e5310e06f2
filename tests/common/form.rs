//! Forms with files.

use super::Request;

const BOUNDARY: &str = "a-boundary-that-no-part-contains";

/// A form of the type multipart/form-data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    body: Vec<u8>,
}

impl Form {
    /// With a field that is no file.
    pub(crate) fn field(self, name: &str, text: &str) -> Self {
        self.part(name, None, None, text)
    }

    /// With a file among the `files`.
    pub(crate) fn file(self, name: &str, content_type: &str, content: impl AsRef<[u8]>) -> Self {
        self.part("files", Some(name), Some(content_type), content)
    }

    /// With any part.
    pub(crate) fn part(
        mut self,
        field: &str,
        file: Option<&str>,
        content_type: Option<&str>,
        content: impl AsRef<[u8]>,
    ) -> Self {
        let mut head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{field}\"");
        if let Some(file) = file {
            head.push_str(&format!("; filename=\"{file}\""));
        }
        if let Some(kind) = content_type {
            head.push_str(&format!("\r\ncontent-type: {kind}"));
        }
        self.body.extend(head.into_bytes());
        self.body.extend(b"\r\n\r\n");
        self.body.extend(content.as_ref());
        self.body.extend(b"\r\n");
        self
    }

    /// As the body of a request.
    pub(crate) fn of(self, request: Request) -> Request {
        let mut body = self.body;
        body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        request
            .header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"))
            .raw(body)
    }

    /// As an upload.
    pub(crate) fn upload(self) -> Request {
        self.of(Request::new("POST", "/upload"))
    }
}
