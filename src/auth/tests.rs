use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Options};

pub(super) const NOW: i64 = 1_770_000_000;
const SECRET: &str = "vector-secret-0123456789abcdef0123456789abcdef";
pub(super) const HS256: &[(&str, &str)] = &[
    ("JWT_ENABLED", "true"),
    ("JWT_ALGORITHM", "HS256"),
    ("JWT_SECRET_KEY", SECRET),
    ("JWT_AUDIENCE", "activekg"),
    ("JWT_ISSUER", "https://issuer.example"),
];
const RSA_PRIVATE: &str = include_str!("tests/rsa_private.pem");
const RSA_PUBLIC: &str = include_str!("tests/rsa_public.pem");
const ED_PRIVATE: &str = include_str!("tests/ed25519_private.pem");
const ED_PUBLIC: &str = include_str!("tests/ed25519_public.pem");

pub(super) fn authenticator(variables: &[(&str, &str)]) -> Authenticator {
    let variables: BTreeMap<&str, &str> =
        variables.iter().copied().chain([("HOME", "/home/somebody")]).collect();
    let options =
        Options::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap();
    Authenticator::new(&Config::new(&options).unwrap().auth)
}

/// The claims of a good token, with changes; `null` takes a claim away.
fn claims(changes: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "sub": "user-1", "tenant_id": "t1", "aud": "activekg", "iss": "https://issuer.example",
        "iat": NOW - 5, "exp": NOW + 3600, "scopes": [],
    });
    for (claim, value) in changes {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(*claim),
            value => claims.as_object_mut().unwrap().insert((*claim).to_owned(), value.clone()),
        };
    }
    claims
}

pub(super) fn token(changes: &[(&str, Value)]) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(changes), &key).unwrap()
}

fn detail(token: &str) -> String {
    let error =
        authenticator(HS256).authenticate(Some(&format!("Bearer {token}")), NOW).unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Unauthenticated);
    error.detail
}

#[test]
fn a_good_token_names_its_caller() {
    let good = token(&[("scopes", json!(["admin:refresh"])), ("actor_type", json!("api_key"))]);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let caller =
            authenticator(HS256).authenticate(Some(&format!("{scheme} {good}")), NOW).unwrap();
        assert_eq!(caller.tenant.as_str(), "t1");
        assert_eq!((caller.actor_id.as_str(), caller.actor_type.as_str()), ("user-1", "api_key"));
        assert!(caller.authenticated && caller.scopes.allow(Scope::AdminRefresh));
    }
}

#[test]
fn a_request_without_a_token_is_told_so() {
    for header in [None, Some("Basic dXNlcjpwYXNz"), Some("Bearer"), Some("Bearer "), Some("")] {
        let error = authenticator(HS256).authenticate(header, NOW).unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::Unauthenticated);
        assert_eq!(error.detail, "Missing Authorization header. JWT required for this endpoint.");
        assert_eq!(error.violation, Some(Violation::MissingToken));
    }
}

#[test]
fn what_is_no_token_is_told_why() {
    assert_eq!(detail("garbage"), "Invalid JWT token: Not enough segments");
    assert_eq!(detail("a.b"), "Invalid JWT token: Not enough segments");
    assert_eq!(detail("a.b.c"), "Invalid JWT token: Invalid header padding");
    assert_eq!(detail("bm8.e30.e30"), "Invalid JWT token: Invalid header string");
    assert_eq!(detail(&"x".repeat(20_000)), "Invalid JWT token: Token is too long");
    assert_eq!(detail(&format!("{}.AAAA", token(&[]))), "Invalid JWT token: Too many segments");
}

#[test]
fn only_our_algorithm_counts() {
    let other = |header: &Header| {
        jsonwebtoken::encode(header, &claims(&[]), &EncodingKey::from_secret(SECRET.as_bytes()))
            .unwrap()
    };
    let refused = "Invalid JWT token: The specified alg value is not allowed";
    assert_eq!(detail(&other(&Header::new(Algorithm::HS512))), refused);
    // {"alg":"none"}, no signature
    let unsigned = token(&[]);
    let payload = unsigned.split('.').nth(1).unwrap();
    assert_eq!(detail(&format!("eyJhbGciOiJub25lIn0.{payload}.")), refused);
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["b64".to_owned()]);
    assert_eq!(detail(&other(&critical)), "Invalid JWT token: Unsupported critical extension");
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic confusion: a token signed with HS256 and the text of the public key as secret.
    let rs256 = [("JWT_ENABLED", "true"), ("JWT_PUBLIC_KEY", RSA_PUBLIC)];
    let forged = EncodingKey::from_secret(RSA_PUBLIC.as_bytes());
    let forged =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&[]), &forged).unwrap();
    let error =
        authenticator(&rs256).authenticate(Some(&format!("Bearer {forged}")), NOW).unwrap_err();
    assert_eq!(error.detail, "Invalid JWT token: The specified alg value is not allowed");
}

#[test]
fn a_changed_token_fails_its_signature() {
    let good = token(&[]);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = token(&[("tenant_id", json!("t2"))]);
    let (other, _) = other.rsplit_once('.').unwrap();
    let failed = "Invalid JWT token: Signature verification failed";
    assert_eq!(detail(&format!("{other}.{signature}")), failed);
    assert_eq!(detail(&format!("{message}.")), failed);
    assert_eq!(detail(&format!("{message}.AAAA")), failed);
}

#[test]
fn claims_are_checked_with_the_contracts_words() {
    let table: &[(&[(&str, Value)], &str)] = &[
        (&[("exp", json!(NOW - 120))], "JWT token has expired"),
        (&[("exp", Value::Null)], "Invalid JWT token: Token is missing the \"exp\" claim"),
        (
            &[("exp", json!("soon"))],
            "Invalid JWT token: Expiration Time claim (exp) must be an integer.",
        ),
        (&[("nbf", json!(NOW + 120))], "Invalid JWT token: The token is not yet valid (nbf)"),
        (&[("iat", json!(NOW + 120))], "Invalid JWT token: The token is not yet valid (iat)"),
        (&[("aud", json!("other"))], "JWT token has invalid audience"),
        (&[("aud", json!(["x", "y"]))], "JWT token has invalid audience"),
        (&[("aud", json!(7))], "JWT token has invalid audience"),
        (&[("aud", Value::Null)], "Invalid JWT token: Token is missing the \"aud\" claim"),
        (&[("iss", json!("https://evil.example"))], "JWT token has invalid issuer"),
        (&[("iss", Value::Null)], "Invalid JWT token: Token is missing the \"iss\" claim"),
        (&[("tenant_id", Value::Null)], "Missing tenant_id claim in JWT"),
        (&[("tenant_id", json!(""))], "Missing tenant_id claim in JWT"),
        (&[("tenant_id", json!("  "))], "Missing tenant_id claim in JWT"),
        (&[("tenant_id", json!(7))], "Missing tenant_id claim in JWT"),
        (&[("sub", Value::Null)], "Missing sub (actor_id) claim in JWT"),
        (&[("sub", json!(7))], "Invalid JWT token: Subject must be a string"),
    ];
    for (changes, expected) in table {
        assert_eq!(detail(&token(changes)), *expected);
    }
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let closed = authenticator(HS256);
    let at = |changes: &[(&str, Value)]| {
        closed.authenticate(Some(&format!("Bearer {}", token(changes))), NOW)
    };
    assert!(at(&[("exp", json!(NOW - 29))]).is_ok());
    assert!(at(&[("exp", json!(NOW - 30))]).is_err());
    assert!(at(&[("nbf", json!(NOW + 30)), ("iat", json!(NOW + 30))]).is_ok());
    assert!(at(&[("nbf", json!(NOW + 31))]).is_err());
    assert!(at(&[("exp", json!(1e300))]).is_ok());
    assert!(at(&[("exp", json!(-1e300))]).is_err());
}

#[test]
fn a_list_of_audiences_may_name_ours() {
    let header = format!("Bearer {}", token(&[("aud", json!(["x", "activekg"]))]));
    assert!(authenticator(HS256).authenticate(Some(&header), NOW).is_ok());
}

#[test]
fn the_reserved_tenant_is_forbidden() {
    let header = format!("Bearer {}", token(&[("tenant_id", json!("__quarantine__"))]));
    let error = authenticator(HS256).authenticate(Some(&header), NOW).unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (AuthErrorKind::Forbidden, "Reserved tenant_id")
    );
}

#[test]
fn a_missing_scope_is_named() {
    let closed = authenticator(HS256);
    let caller = closed.authenticate(Some(&format!("Bearer {}", token(&[]))), NOW).unwrap();
    let error = closed.authorize(&caller, Access::Admin).unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Forbidden);
    assert_eq!(error.detail, "Insufficient permissions. Required scope: admin:refresh");
    assert_eq!(error.violation, Some(Violation::ScopeDenied));
    assert!(closed.authorize(&caller, Access::Write).is_ok());

    let mut scoped: Vec<(&str, &str)> = HS256.to_vec();
    scoped.push(("AUTHZ_MODE", "scopes"));
    let error = authenticator(&scoped).authorize(&caller, Access::Write).unwrap_err();
    assert_eq!(error.detail, "Insufficient permissions. Required scope: kg:write");
}

#[test]
fn without_tokens_everything_is_open() {
    let open = authenticator(&[]);
    let caller = open.authenticate(Some("Bearer garbage"), NOW).unwrap();
    assert!(!caller.authenticated && !open.tokens_required());
    assert_eq!(caller.actor_id, "dev_user");
    assert!(open.authorize(&caller, Access::Admin).is_ok());
}

#[test]
fn without_a_key_nobody_gets_in() {
    for (variables, says) in [
        (vec![("JWT_ENABLED", "true")], "JWT_PUBLIC_KEY is not set; JWT_ALGORITHM=RS256 needs it"),
        (
            vec![
                ("JWT_ENABLED", "true"),
                ("JWT_ALGORITHM", "HS256"),
                ("JWT_PUBLIC_KEY", RSA_PUBLIC),
            ],
            "JWT_SECRET_KEY is not set; JWT_ALGORITHM=HS256 needs it",
        ),
        (
            vec![("JWT_ENABLED", "true"), ("JWT_PUBLIC_KEY", "no key at all")],
            "JWT_PUBLIC_KEY is not a public key for RS256 in PEM form",
        ),
        (
            vec![("JWT_ENABLED", "true"), ("JWT_PUBLIC_KEY", ED_PUBLIC)],
            "JWT_PUBLIC_KEY is not a public key for RS256 in PEM form",
        ),
        (
            vec![("JWT_ENABLED", "true"), ("JWT_PUBLIC_KEY", RSA_PRIVATE)],
            "JWT_PUBLIC_KEY is not a public key for RS256 in PEM form",
        ),
    ] {
        let closed = authenticator(&variables);
        assert_eq!(closed.problem().as_deref(), Some(says));
        let error = closed.authenticate(Some(&format!("Bearer {}", token(&[]))), NOW).unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::NotConfigured);
        assert_eq!(error.detail, "JWT_SECRET_KEY or JWT_PUBLIC_KEY not configured");
    }
}

#[test]
fn public_keys_are_read_in_every_written_form() {
    use base64::Engine as _;
    let signed = |algorithm, key: &EncodingKey| {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(&[]), key).unwrap();
        format!("Bearer {token}")
    };
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    for (name, public, header) in [
        ("RS256", RSA_PUBLIC, signed(Algorithm::RS256, &rsa)),
        ("EdDSA", ED_PUBLIC, signed(Algorithm::EdDSA, &ed)),
    ] {
        let escaped = public.trim().replace('\n', "\\n");
        let base64 = base64::engine::general_purpose::STANDARD.encode(public);
        for written in [public, &escaped, &base64] {
            let set =
                [("JWT_ENABLED", "true"), ("JWT_ALGORITHM", name), ("JWT_PUBLIC_KEY", written)];
            let closed = authenticator(&set);
            assert_eq!(closed.problem(), None, "{name}");
            let caller = closed.authenticate(Some(&header), NOW).unwrap();
            assert_eq!(caller.tenant.as_str(), "t1");
        }
    }
}

#[test]
fn a_minted_token_is_accepted_until_it_ends() {
    let variables: BTreeMap<&str, &str> =
        HS256.iter().copied().chain([("HOME", "/home/somebody")]).collect();
    let options =
        Options::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap();
    let jwt = Config::new(&options).unwrap().auth.jwt.unwrap();
    let new = NewToken {
        tenant: TenantId::new("acme").unwrap(),
        sub: "developer".to_owned(),
        scopes: vec!["admin:refresh".to_owned()],
        ttl_seconds: 60,
    };
    let header = format!("Bearer {}", mint(&jwt, &new, NOW).unwrap());
    let caller = authenticator(HS256).authenticate(Some(&header), NOW + 89).unwrap();
    assert_eq!(caller.tenant.as_str(), "acme");
    assert!(caller.scopes.allow(Scope::AdminRefresh) && !caller.scopes.allow(Scope::KgWrite));
    let late = authenticator(HS256).authenticate(Some(&header), NOW + 90).unwrap_err();
    assert_eq!(late.detail, "JWT token has expired");
}

/// A JSON value of any kind, as a claim may hold it.
fn any_claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(".{0,6}", 0..4).prop_map(Value::from),
        Just(json!({ "nested": [1, { "deep": null }] })),
    ]
}

proptest! {
    // Whatever stands where a token should be, it names nobody.
    #[test]
    fn no_text_is_a_token(
        text in "\\PC{0,40}",
        segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let auth = authenticator(HS256);
        let encoded: Vec<String> =
            segments.iter().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).collect();
        let good = token(&[]);
        let mut changed = good.clone().into_bytes();
        // Not the last character, whose lowest bits say nothing.
        let at = cut.index(changed.len() - 1);
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        for bad in [&text, &encoded.join("."), &changed, &good[..cut.index(good.len())].to_owned()] {
            prop_assert!(auth.authenticate(Some(&format!("Bearer {bad}")), NOW).is_err(), "{}", bad);
            prop_assert!(auth.authenticate(Some(bad), NOW).is_err(), "{}", bad);
        }
    }

    // A signed token may still claim anything; whom it names is what it says, or nobody.
    #[test]
    fn any_signed_claims_are_a_caller_or_an_error(
        changed in prop::collection::btree_map(
            prop::sample::select(vec![
                "sub", "tenant_id", "aud", "iss", "iat", "exp", "nbf", "scopes", "scope", "actor_type",
            ]),
            any_claim(),
            0..5,
        ),
    ) {
        let changes: Vec<(&str, Value)> =
            changed.iter().map(|(claim, value)| (*claim, value.clone())).collect();
        let claims = claims(&changes);
        let header = format!("Bearer {}", token(&changes));
        if let Ok(caller) = authenticator(HS256).authenticate(Some(&header), NOW) {
            prop_assert_eq!(claims["tenant_id"].as_str(), Some(caller.tenant.as_str()));
            prop_assert_eq!(claims["sub"].as_str(), Some(caller.actor_id.as_str()));
        }
    }
}
