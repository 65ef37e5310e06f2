//! What the black-box tests share: the real program under test, a client that can also misbehave,
//! JSON that keeps big integers apart, tokens.

pub(crate) mod form;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod models;
pub(crate) mod page;
pub(crate) mod server;
pub(crate) mod sns;
pub(crate) mod sns_host;
pub(crate) mod token;

pub(crate) use form::Form;
pub(crate) use http::{Answer, Request};
pub(crate) use models::{DIM, Models};
pub(crate) use server::{Options, Server};

/// A file or folder of the checkout. Tests run in its root; where they were compiled may be
/// another one that has the same target directory.
pub(crate) fn of_checkout(path: &str) -> std::path::PathBuf {
    std::env::current_dir().expect("a working directory").join(path)
}
