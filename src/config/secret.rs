//! Text that must not be seen.

use zeroize::Zeroizing;

/// A key, a secret, or an address that may hold a password. It has no `Debug` and no `Display`, so
/// it cannot slip into a log line or an error; [`Secret::reveal`] is easy to search for. It is zeroed
/// when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The secret without surrounding white space, or `None` when nothing is left.
    pub(super) fn given(raw: &Option<Self>) -> Option<Self> {
        let text = raw.as_ref()?.0.trim();
        (!text.is_empty()).then(|| Self::from(text.to_owned()))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}
