//! Mails: the headers a reader looks at, the text, the names of attachments.

use mail_parser::{Address, Message, MessageParser, MimeHeaders as _, PartType};

use super::html;
use super::write::Writer;
use crate::documents::{Limits, NoText};

/// The mail as text. Where there is no plain text the HTML is read; attachments are named and not
/// read.
pub(super) fn text(bytes: &[u8], limits: &Limits) -> Result<String, NoText> {
    let mail = MessageParser::default().parse(bytes).ok_or(NoText::Damaged)?;
    let mut out = Writer::new(limits.text_bytes);
    headers(&mail, &mut out)?;
    if out.is_empty() {
        return Err(NoText::Damaged);
    }
    out.paragraph();
    for part in mail.text_body.iter().filter_map(|part| mail.parts.get(*part as usize)) {
        match &part.body {
            PartType::Text(body) => out.lines(body)?,
            PartType::Html(body) => out.lines(&html::text(body, limits)?)?,
            PartType::Binary(_)
            | PartType::InlineBinary(_)
            | PartType::Message(_)
            | PartType::Multipart(_) => {}
        }
        out.line();
    }
    let attachments: Vec<&str> =
        mail.attachments().filter_map(|attachment| attachment.attachment_name()).collect();
    if !attachments.is_empty() {
        out.paragraph();
        line(&mut out, "Attachments", &attachments.join(", "))?;
    }
    Ok(out.finish())
}

fn headers(mail: &Message<'_>, out: &mut Writer) -> Result<(), NoText> {
    line(out, "Subject", mail.subject().unwrap_or_default())?;
    line(out, "From", &people(mail.from()))?;
    line(out, "To", &people(mail.to()))?;
    line(out, "Cc", &people(mail.cc()))?;
    line(out, "Date", &mail.date().map(|date| date.to_rfc3339()).unwrap_or_default())
}

/// A line with its label; none for what is blank.
fn line(out: &mut Writer, label: &str, value: &str) -> Result<(), NoText> {
    if value.trim().is_empty() {
        return Ok(());
    }
    out.words(label)?;
    out.words(": ")?;
    out.words(value)?;
    out.line();
    Ok(())
}

/// Names and addresses, separated by commas.
fn people(addresses: Option<&Address<'_>>) -> String {
    let people = addresses.into_iter().flat_map(Address::iter);
    let people = people.filter_map(|person| match (&person.name, &person.address) {
        (Some(name), Some(address)) => Some(format!("{name} <{address}>")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_string()),
        (None, None) => None,
    });
    people.collect::<Vec<_>>().join(", ")
}
