//! Messages of Amazon SNS: what they say, and the text they sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Refused;
use super::certificate::{CertificateUrl, Digest, SIGNATURE_MIN};

/// What topics of a tenant are called: this, and the tenant.
const TENANT_TOPIC: &str = ":activekg-s3-";

/// Longest id of a message, in bytes; real ones have 36.
pub(super) const ID_MAX: usize = 256;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It carries an event.
    Notification,
    /// Somebody wants the topic to send its messages here.
    Subscription,
    /// Somebody wants it to send no more.
    Unsubscription,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "Notification" => Some(Self::Notification),
            "SubscriptionConfirmation" => Some(Self::Subscription),
            "UnsubscribeConfirmation" => Some(Self::Unsubscription),
            _ => None,
        }
    }

    /// What is signed of a message, in this order.
    fn signed(self) -> &'static [&'static str] {
        match self {
            Self::Notification => {
                &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
            }
            Self::Subscription | Self::Unsubscription => {
                &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
            }
        }
    }
}

/// Where a signature is when it is not in the message: some relays put it into headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignatureHeaders<'a> {
    /// `x-amz-sns-message-signature`.
    pub signature: Option<&'a str>,
    /// `x-amz-sns-signing-cert-url`.
    pub certificate: Option<&'a str>,
    /// `x-amz-sns-message-signature-version`.
    pub version: Option<&'a str>,
}

/// A message, of which nothing is believed yet.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    members: Map<String, Value>,
}

/// A signature with what it takes to verify it.
pub(super) struct Signature {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) certificate: CertificateUrl,
}

impl Message {
    /// Reads the object of a body.
    pub(super) fn new(members: Map<String, Value>) -> Result<Self, Refused> {
        let kind = members.get("Type").and_then(Value::as_str).and_then(Kind::named);
        let kind = kind.ok_or(Refused::UnknownType)?;
        let message = Self { kind, members };
        if kind == Kind::Subscription && message.text("SubscribeURL").is_none() {
            return Err(Refused::NoSubscribeUrl);
        }
        Ok(message)
    }

    /// A member that is text and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The topic it comes from; empty if it names none.
    pub(super) fn topic(&self) -> &str {
        self.text("TopicArn").unwrap_or_default()
    }

    /// The name of the tenant that the topic is for.
    pub(super) fn tenant(&self) -> &str {
        let named = self.topic().split_once(TENANT_TOPIC).map(|(_, tenant)| tenant);
        named.filter(|tenant| !tenant.is_empty()).unwrap_or("default")
    }

    /// Its id, which every message has.
    pub(super) fn id(&self) -> Result<&str, Refused> {
        self.text("MessageId").filter(|id| id.len() <= ID_MAX).ok_or(Refused::NoMessageId)
    }

    /// What its signature is over: name and value of each member that is there, a line each.
    pub(super) fn signed_text(&self) -> String {
        let mut text = String::new();
        for name in self.kind.signed() {
            if let Some(value) = self.members.get(*name).and_then(Value::as_str) {
                text.push_str(name);
                text.push('\n');
                text.push_str(value);
                text.push('\n');
            }
        }
        text
    }

    /// The digest that its signature is over.
    pub(super) fn digest(&self, headers: SignatureHeaders<'_>) -> Result<Digest, Refused> {
        let version = match self.members.get("SignatureVersion") {
            None | Some(Value::Null) => headers.version.unwrap_or("1").to_owned(),
            Some(Value::String(version)) => version.clone(),
            Some(other) => other.to_string(),
        };
        match version.as_str() {
            "1" => Ok(Digest::Sha1),
            "2" => Ok(Digest::Sha256),
            _ => Err(Refused::SignatureVersion(version.chars().take(20).collect())),
        }
    }

    /// Its signature; what is wrong with it otherwise.
    pub(super) fn signature(
        &self,
        digest: Digest,
        headers: SignatureHeaders<'_>,
    ) -> Result<Signature, &'static str> {
        let text = self.text("Signature").or(headers.signature).ok_or("it is not signed")?;
        let bytes = STANDARD.decode(text.trim()).map_err(|_| "the signature is not base64")?;
        if bytes.len() < SIGNATURE_MIN {
            return Err("the signature is too short");
        }
        let url = self.text("SigningCertURL").or(headers.certificate);
        let url = url.ok_or("it names no certificate")?;
        let certificate =
            CertificateUrl::parse(url).ok_or("the certificate's address is none of SNS")?;
        Ok(Signature { bytes, digest, certificate })
    }
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    use serde_json::json;

    use super::*;

    fn message(value: Value) -> Message {
        let Value::Object(members) = value else { panic!("an object") };
        Message::new(members).expect("a message")
    }

    fn hex(algorithm: &'static ring::digest::Algorithm, text: &str) -> String {
        digest(algorithm, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_text_that_is_signed_is_the_one_of_sns() {
        let notification = json!({
            "Type": "Notification", "Message": "{\"Records\":[]}",
            "MessageId": "11111111-2222-3333-4444-555555555555",
            "Subject": "Amazon S3 Notification", "Timestamp": "2026-01-02T03:04:05.678Z",
            "TopicArn": "arn:aws:sns:eu-west-1:000000000000:activekg-s3-acme",
            "UnsubscribeURL": "not signed",
        });
        let text = message(notification.clone()).signed_text();
        assert_eq!(text.len(), 215);
        assert_eq!(
            hex(&SHA1_FOR_LEGACY_USE_ONLY, &text),
            "b0486bba10ff92acc7bff4a7c35ee47e10c23cca"
        );
        assert_eq!(
            hex(&SHA256, &text),
            "2d2f0d5a4a14a4f35624e18f0fb13f9761cbccdb50491361092a14dc4c835791"
        );
        let mut bare = notification;
        bare.as_object_mut().expect("an object").remove("Subject");
        let text = message(bare).signed_text();
        assert_eq!(text.len(), 184);
        assert_eq!(
            hex(&SHA1_FOR_LEGACY_USE_ONLY, &text),
            "6730e92469c5e601ec6a8e69d02a8783a9a72e63"
        );
        let confirmation = json!({
            "Type": "SubscriptionConfirmation", "Message": "confirm", "Token": "tok-123",
            "MessageId": "11111111-2222-3333-4444-555555555555",
            "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=tok-123",
            "Timestamp": "2026-01-02T03:04:05.678Z",
            "TopicArn": "arn:aws:sns:eu-west-1:000000000000:activekg-s3-acme",
        });
        let text = message(confirmation).signed_text();
        assert_eq!(text.len(), 294);
        assert_eq!(
            hex(&SHA1_FOR_LEGACY_USE_ONLY, &text),
            "6b302f0e279c53907007f0e209179b0225ab294c"
        );
    }

    #[test]
    fn a_topic_names_its_tenant() {
        let tenant = |topic: Value| {
            message(json!({ "Type": "Notification", "TopicArn": topic })).tenant().to_owned()
        };
        assert_eq!(
            tenant(json!("arn:aws:sns:eu-west-1:000000000000:activekg-s3-harbor")),
            "harbor"
        );
        assert_eq!(tenant(json!("arn:aws:sns:e:0:activekg-s3-")), "default");
        assert_eq!(tenant(json!("arn:aws:sns:e:0:other")), "default");
        assert_eq!(tenant(Value::Null), "default");
    }

    #[test]
    fn the_body_goes_before_the_headers() {
        let headers = SignatureHeaders { version: Some("2"), ..SignatureHeaders::default() };
        let digest = |value: Value| message(value).digest(headers);
        assert_eq!(digest(json!({ "Type": "Notification" })).ok(), Some(Digest::Sha256));
        let named =
            |version: Value| digest(json!({ "Type": "Notification", "SignatureVersion": version }));
        assert_eq!(named(json!("1")).ok(), Some(Digest::Sha1));
        assert_eq!(named(json!(2)).ok(), Some(Digest::Sha256));
        assert!(
            matches!(named(json!("3")), Err(Refused::SignatureVersion(version)) if version == "3")
        );
    }
}
