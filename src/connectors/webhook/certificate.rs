//! Certificates that SNS signs its messages with.

use reqwest::Url;
use ring::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use x509_cert::Certificate as X509;
use x509_cert::der::DecodePem as _;
use x509_cert::der::oid::ObjectIdentifier;

/// Shortest signature, in bytes: that of a key of 1024 bits.
pub(super) const SIGNATURE_MIN: usize = 128;

/// Keys for RSA signatures (RFC 8017, A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// What a signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    /// Signature version 1.
    Sha1,
    /// Signature version 2.
    Sha256,
}

/// The address of a certificate of SNS, and of nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CertificateUrl(String);

impl CertificateUrl {
    /// Reads an address: `https`, a host of SNS, no port, no user, and the path that SNS keeps its
    /// certificates at. Anybody may have a host of Amazon's, such as that of a bucket.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, path) = sns_host(text)?;
        let name = path.strip_prefix("/SimpleNotificationService-")?.strip_suffix(".pem")?;
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // Written any other way it is the address of something else, whatever it resolves to.
        (plain && text == format!("https://{host}{path}")).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file in a folder of certificates: letters, digits, a dash and `.pem`.
    pub(super) fn file(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// An address at which a subscription to `topic` can be confirmed, if it is one of SNS.
pub(super) fn confirmation(text: &str, topic: &str) -> Option<Url> {
    sns_host(text)?;
    let url = Url::parse(text).ok()?;
    let mut topics = url.query_pairs().filter(|(name, _)| name == "TopicArn");
    let named = topics.next()?.1 == topic && topics.next().is_none();
    named.then_some(url)
}

/// Host and path of an address of SNS.
fn sns_host(text: &str) -> Option<(String, String)> {
    let url = Url::parse(text).ok()?;
    let plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|_| plain)?;
    let region = host.strip_prefix("sns.")?;
    let region = region.strip_suffix(".cn").unwrap_or(region).strip_suffix(".amazonaws.com")?;
    let is_region = region.len() >= 3
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    is_region.then(|| (host.to_owned(), url.path().to_owned()))
}

/// A certificate, as far as signatures need it.
#[derive(Debug)]
pub(super) struct Certificate {
    key: Vec<u8>,
    not_before: u64,
    not_after: u64,
}

/// Why a file is no certificate for signatures of SNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateFault {
    /// It is something else.
    #[error("it is not a certificate in PEM form")]
    NotPem,
    /// It is a certificate for another kind of key.
    #[error("its key is no RSA key")]
    NotRsa,
}

impl Certificate {
    /// Reads the first certificate of a file.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, CertificateFault> {
        let block = first_block(pem).ok_or(CertificateFault::NotPem)?;
        let first = X509::from_pem(block).map_err(|_| CertificateFault::NotPem)?.tbs_certificate;
        let key = &first.subject_public_key_info;
        if key.algorithm.oid != RSA_ENCRYPTION {
            return Err(CertificateFault::NotRsa);
        }
        Ok(Self {
            key: key.subject_public_key.raw_bytes().to_vec(),
            not_before: first.validity.not_before.to_unix_duration().as_secs(),
            not_after: first.validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// Whether it is valid at `now`, in unix seconds.
    pub(super) fn valid_at(&self, now: i64) -> bool {
        u64::try_from(now).is_ok_and(|now| (self.not_before..=self.not_after).contains(&now))
    }

    /// Whether its key signed `text`.
    pub(super) fn signed(&self, text: &[u8], signature: &[u8], digest: Digest) -> bool {
        let algorithm: &'static RsaParameters = match digest {
            Digest::Sha1 => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Digest::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(text, signature).is_ok()
    }
}

/// The first certificate of a file, from its first line to its last.
fn first_block(pem: &[u8]) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).ok()?;
    let block = &text[text.find("-----BEGIN CERTIFICATE-----")?..];
    Some(&block[..block.find(END)? + END.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_sns_lead_to_certificates() {
        for good in [
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1B.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-test.pem",
        ] {
            let url = CertificateUrl::parse(good).unwrap_or_else(|| panic!("{good}"));
            assert!(url.file().starts_with("SimpleNotificationService-"));
        }
        for bad in [
            "",
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.amazonaws.com/test.pem",
            "https://sns.amazonaws.com/SimpleNotificationService-a.pem",
            "https://evil.s3.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.evil.s3.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com.cn.cn/SimpleNotificationService-a.pem",
            "https://xsns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com:443/SimpleNotificationService-a.pem",
            "https://user@sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com/../SimpleNotificationService-a.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem?x",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem#x",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-..%2fa.pem",
            "https://sns.e.amazonaws.com/SimpleNotificationService-a.pem",
        ] {
            assert_eq!(CertificateUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subscription_is_confirmed_at_sns_for_its_own_topic() {
        let topic = "arn:aws:sns:eu-west-1:1:activekg-s3-acme";
        let at = |host: &str, topic: &str| {
            format!("https://{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token=t")
        };
        let sns = "sns.eu-west-1.amazonaws.com";
        assert!(confirmation(&at(sns, topic), topic).is_some());
        assert!(confirmation(&at(sns, "arn:other"), topic).is_none());
        assert!(confirmation(&at("sns.example.com", topic), topic).is_none());
        let twice = format!("{}&TopicArn={topic}", at(sns, topic));
        assert!(confirmation(&twice, topic).is_none());
        assert!(confirmation("https://sns.eu-west-1.amazonaws.com/", topic).is_none());
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        let valid = include_str!("../../../tests/data/sns/SimpleNotificationService-valid.pem");
        assert!(Certificate::parse(format!("\n{valid}{valid}").as_bytes()).is_ok());
        let (_, key) = valid.split_once('\n').expect("lines");
        let cut = format!("-----BEGIN CERTIFICATE-----\n{}", &key[100..]);
        let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        let short = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "x", empty, short, &cut, &valid[..valid.len() - 30]] {
            assert_eq!(Certificate::parse(text.as_bytes()).err(), Some(CertificateFault::NotPem));
        }
    }
}
