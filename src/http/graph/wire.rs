//! What the graph surface reads and writes, field by field. Requests check themselves and give
//! everything that is wrong at once; answers keep their members in the order clients know.

pub mod ask;
pub mod audit;
pub mod backup;
pub mod connectors;
pub mod edge;
pub mod embedding;
pub mod indexes;
pub mod models;
pub mod node;
pub mod openai;
pub mod operator;
pub mod policy;
pub mod purge;
pub mod query;
pub mod queues;
pub mod search;
pub mod survey;
pub mod trigger;
pub mod upkeep;
pub mod upload;
pub mod walk;
pub mod workers;

use crate::http::validate::{At, Checked};

/// Characters in a tenant's name at most.
const TENANT_MAX: usize = 100;

/// The tenant a request names; nothing when it is blank. It counts only while tokens are off.
fn tenant(at: At<'_>) -> Checked<Option<String>> {
    if at.value.is_null() {
        return Ok(None);
    }
    let name = at.string_of(0, TENANT_MAX)?;
    Ok(Some(name).filter(|name| !name.trim().is_empty()))
}

/// Text with its blanks collapsed, which must leave something: `message` if it does not.
fn sentence(at: At<'_>, max: usize, message: &str) -> Checked<String> {
    let text = at.string_of(1, max)?;
    let words: Vec<&str> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { at.value_error(message) } else { Ok(words.join(" ")) }
}

/// Blanks as clients count them: with the four information separators.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

#[cfg(test)]
mod tests;
