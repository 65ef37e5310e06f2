//! Issuers that publish their keys.

use std::fs;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::common::page::Page;
use crate::common::token::{JWT_ENV, token, unix_now};
use crate::common::{Options, Request, Server};

const ISSUER: &str = "https://ed.example/";
const ED: &str = include_str!("../../../src/auth/tests/ed25519_private.pem");
const RSA: &str = include_str!("../../../src/auth/tests/rsa_private.pem");

fn ed() -> EncodingKey {
    EncodingKey::from_ed_pem(ED.as_bytes()).expect("a key")
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key")
}

/// What an issuer publishes of one key.
fn published(key: &EncodingKey, algorithm: Algorithm, id: &str) -> Value {
    let jwk = Jwk::from_encoding_key(key, algorithm).expect("a public part");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk["kid"] = id.into();
    jwk
}

fn signed(key: &EncodingKey, algorithm: Algorithm, id: Option<&str>, issuer: &str) -> String {
    let mut header = Header::new(algorithm);
    header.kid = id.map(str::to_owned);
    let claims = json!({ "sub": "u", "tenant_id": "t1", "aud": "activekg", "iss": issuer,
        "iat": unix_now(), "exp": unix_now() + 600 });
    jsonwebtoken::encode(&header, &claims, key).expect("signed")
}

fn status(server: &Server, token: &str) -> u16 {
    server.send(&Request::get("/nodes").bearer(token)).status
}

#[test]
fn each_issuer_has_its_own_keys() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("keys.json");
    let set = json!({ "keys": [published(&ed(), Algorithm::EdDSA, "a")] });
    fs::write(&file, set.to_string()).expect("written");
    let issuers = format!("{ISSUER}={}", file.display());
    let server = Options::new(&JWT_ENV).set("JWT_ISSUERS", &issuers).start();
    assert_eq!(status(&server, &token("t1", &[])), 200, "the key that is set serves others");
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, Some("a"), ISSUER)), 200);
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, None, ISSUER)), 200);
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, Some("a"), "https://other/")), 401);
    assert_eq!(status(&server, &signed(&rsa(), Algorithm::RS256, Some("a"), ISSUER)), 401);
    // A secret that everybody knows, the published key, signs nothing.
    let secret = EncodingKey::from_secret(set.to_string().as_bytes());
    assert_eq!(status(&server, &signed(&secret, Algorithm::HS256, Some("a"), ISSUER)), 401);

    // The issuer takes a new key; the first token of it makes the server look.
    let set = json!({ "keys": [published(&rsa(), Algorithm::RS256, "b")] });
    fs::write(&file, set.to_string()).expect("written");
    let new = signed(&rsa(), Algorithm::RS256, Some("b"), ISSUER);
    server.until(&Request::get("/nodes").bearer(&new), |answer| answer.status == 200);
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, Some("a"), ISSUER)), 401);
}

#[test]
fn keys_of_the_web_outlast_the_network() {
    let set = json!({ "keys": [published(&ed(), Algorithm::EdDSA, "a")] });
    let page = Page::new(&set.to_string());
    let options = Options::new(&[("JWT_ENABLED", "true")]).set("JWT_JWKS", &page.url());
    let mut server = options.start();
    let good = signed(&ed(), Algorithm::EdDSA, Some("a"), "anybody");
    assert_eq!(status(&server, &good), 200);
    page.take_down();
    server.terminate();
    server.start_again(&[]);
    assert_eq!(status(&server, &good), 200);
    page.change_to("<html>");
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, Some("z"), "anybody")), 401);
    assert_eq!(status(&server, &good), 200);
}

#[test]
fn a_server_without_keys_is_not_ready_and_lets_nobody_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options::new(&[("JWT_ENABLED", "true"), ("JWT_JWKS", "/nowhere.json")]);
    let server = options.dir(dir.path()).start_degraded();
    server.until(&Request::get("/readyz"), |answer| answer.text().contains("JWT_JWKS"));
    let answer = server.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("JWT_JWKS"), "{}", answer.text());
    assert_eq!(status(&server, &signed(&ed(), Algorithm::EdDSA, None, "x")), 401);
}
