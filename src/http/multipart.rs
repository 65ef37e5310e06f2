//! Forms with files: bodies of the type `multipart/form-data`.

use std::convert::Infallible;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::stream;
use multer::{Multipart, parse_boundary};

use super::error::ApiError;
use super::validate::Checked;

/// Parts of a form at most. The limit of the body allows for a few hundred thousand empty ones.
const PARTS_MAX: usize = 20_000;

/// One field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the field.
    pub field: String,
    /// The name of the file, if it is one.
    pub file: Option<String>,
    /// What the content is said to be.
    pub content_type: Option<String>,
    /// All of it.
    pub content: Bytes,
}

impl Part {
    /// The content of a field that is no file.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// A form that checks itself.
pub trait FormInput: Sized {
    /// Takes the fields in the order they were sent; none when the body is no form.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    fn parse(parts: Vec<Part>) -> Checked<Self>;
}

/// The checked form of a request.
#[derive(Debug, Clone)]
pub struct FormBody<T>(pub T);

impl<T: FormInput, S: Send + Sync> FromRequest<S> for FormBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // The front has read the body within its limit already; this only takes it over.
        let body = to_bytes(body, usize::MAX).await.map_err(|_| ApiError::unreadable_body())?;
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let fields = match content_type {
            Some(content_type) if is_form(content_type) => read(content_type, body).await?,
            Some(_) | None => Vec::new(),
        };
        Ok(Self(T::parse(fields)?))
    }
}

fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}

/// The fields of a form.
///
/// # Errors
///
/// 400 for what is none.
async fn read(content_type: &str, body: Bytes) -> Result<Vec<Part>, ApiError> {
    let boundary = parse_boundary(content_type)
        .map_err(|_| ApiError::bad_request("Missing boundary in multipart."))?;
    let broken = |error: multer::Error| ApiError::unreadable_body().with_source(error);
    let body = stream::once(std::future::ready(Ok::<_, Infallible>(body)));
    let mut form = Multipart::new(body, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if parts.len() == PARTS_MAX {
            let most = format!("Too many fields. Maximum number of fields is {PARTS_MAX}.");
            return Err(ApiError::bad_request(most));
        }
        let content_type = field.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        parts.push(Part {
            field: field.name().unwrap_or_default().to_owned(),
            file: field.file_name().map(str::to_owned),
            content_type: content_type.map(str::to_owned),
            content: field.bytes().await.map_err(broken)?,
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::ErrorKind;

    async fn parts(content_type: &str, body: &str) -> Result<Vec<Part>, ApiError> {
        read(content_type, Bytes::from(body.to_owned())).await
    }

    const KIND: &str = "multipart/form-data; boundary=b";

    #[tokio::test]
    async fn fields_and_files_are_told_apart() {
        let body = "--b\r\ncontent-disposition: form-data; name=\"files\"; filename=\"\u{fc} \u{65e5}.txt\"\r\n\
             content-type: text/plain; charset=utf-8\r\n\r\n a\r\n--\r\n--b\r\n\
             Content-Disposition: form-data; name=\"classes\"\r\n\r\nA, B\r\n--b--\r\n";
        let parts = parts(KIND, body).await.expect("a form");
        let [file, field] = parts.as_slice() else { panic!("two parts: {parts:?}") };
        assert_eq!(file.file.as_deref(), Some("\u{fc} \u{65e5}.txt"));
        assert_eq!(file.content_type.as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(file.text(), " a\r\n--");
        assert_eq!((field.field.as_str(), &field.file), ("classes", &None));
        assert_eq!(field.text(), "A, B");
    }

    #[tokio::test]
    async fn what_is_no_form_is_400() {
        for (content_type, body) in [
            ("multipart/form-data", "--b--\r\n"),
            (KIND, "no boundary at all"),
            (KIND, "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\ncut off"),
            (KIND, "--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
        ] {
            let error = parts(content_type, body).await.expect_err(body);
            assert_eq!(error.kind, ErrorKind::BadRequest, "{body}");
        }
        let many =
            "--b\r\ncontent-disposition: form-data; name=a\r\n\r\n\r\n".repeat(PARTS_MAX + 1);
        let error = parts(KIND, &format!("{many}--b--\r\n")).await.expect_err("many");
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }

    #[test]
    fn only_one_type_is_a_form() {
        assert!(is_form("Multipart/Form-Data; boundary=x"));
        assert!(!is_form("multipart/mixed; boundary=x"));
        assert!(!is_form("application/json"));
    }
}
