//! Calls of a real server that behaves well and badly.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::time::{ManualClock, UnixMicros};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::testing::{End, Reply, Stub, client, metrics, service};
use super::*;

fn clock() -> ManualClock {
    ManualClock::at(UnixMicros(1_770_112_800_000_000))
}

fn upstream(stub: &Stub) -> Upstream {
    client(service(&stub.url()), &clock())
}

async fn call(upstream: &Upstream) -> Result<Value, UpstreamError> {
    let body = upstream.call("/models", &json!({"ask": 1})).await?;
    Ok(serde_json::from_slice(&body).expect("JSON"))
}

fn ok() -> Reply {
    Reply::json(200, &json!({"fine": true}))
}

#[tokio::test]
async fn a_call_sends_its_body_and_its_own_key() {
    let stub = Stub::start(|_, _| ok()).await;
    assert_eq!(call(&upstream(&stub)).await.unwrap(), json!({"fine": true}));
    let [seen] = stub.seen().try_into().unwrap();
    assert_eq!((seen.path.as_str(), seen.body), ("/v1/models", json!({"ask": 1})));
    assert_eq!(seen.authorization.as_deref(), Some("Bearer sk-Test-0123456789"));

    let plain = Service { key: None, ..service(&format!("{}/", stub.url())) };
    call(&client(plain, &clock())).await.unwrap();
    let named = format!("http://somebody:hunter2@{}/v1", stub.addr());
    let named = Service { key: None, ..service(&named) };
    call(&client(named, &clock())).await.unwrap();
    let seen = stub.seen();
    assert_eq!((seen[1].path.as_str(), &seen[1].authorization), ("/v1/models", &None));
    assert_eq!(seen[2].authorization.as_deref(), Some("Basic c29tZWJvZHk6aHVudGVyMg=="));
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let stub = Stub::start(|n, _| match n {
        0 => Reply::json(429, &json!({"error": {"code": "rate_limit_exceeded"}}))
            .header("retry-after", "0"),
        1 => Reply::json(500, &json!({})),
        2 => Reply::pieces(200, "application/json", ["{\"fi"], End::Broken),
        _ => ok(),
    })
    .await;
    let metrics = metrics();
    crate::tls::init();
    let upstream =
        Upstream::new(service(&stub.url()), metrics.upstream.clone(), Arc::new(clock())).unwrap();
    assert_eq!(call(&upstream).await.unwrap(), json!({"fine": true}));
    assert_eq!(stub.seen().len(), 4);
    let text = metrics.prometheus_text();
    for line in [
        "activekg_upstream_calls_total{result=\"ok\",service=\"openai\"} 1",
        "activekg_upstream_calls_total{result=\"rate_limited\",service=\"openai\"} 0",
        "activekg_upstream_retries_total{service=\"openai\"} 3",
        "activekg_upstream_breaker_state{service=\"openai\"} 0",
        "activekg_upstream_latency_seconds_count{service=\"openai\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn attempts_end() {
    let stub = Stub::start(|_, _| Reply::json(503, &json!({}))).await;
    let error = call(&upstream(&stub)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Status { status: 503, .. }), "{error}");
    assert_eq!(stub.seen().len(), 4);
}

#[tokio::test]
async fn a_wait_beyond_the_time_of_the_call_is_not_waited() {
    let stub = Stub::start(|_, _| Reply::json(429, &json!({})).header("retry-after", "3600")).await;
    let error = call(&upstream(&stub)).await.unwrap_err();
    let Failure::Status { status: 429, retry_after, .. } = error.failure else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_final_and_repeats_no_secret() {
    let stub = Stub::start(|n, _| {
        let said = "Incorrect API key provided: sk-Test-0123456789, asked about 1";
        let code = ["invalid_api_key", "0123456789"][n];
        Reply::json(401, &json!({"error": {"message": said, "code": code}}))
    })
    .await;
    let upstream = upstream(&stub);
    let error = call(&upstream).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(
        text,
        format!("openai at {} answered 401 (invalid_api_key); check its key", stub.addr())
    );
    assert_eq!(stub.seen().len(), 1);
    // A word that is part of the key is none.
    let error = call(&upstream).await.unwrap_err();
    assert!(!format!("{error}{error:?}").contains("0123456789"), "{error:?}");
}

#[tokio::test]
async fn errors_hold_no_password_of_the_address() {
    let gone = Stub::start(|_, _| ok()).await;
    let addr = gone.addr();
    drop(gone);
    let retries = Retries { max: 0, ..Retries::default() };
    let url = format!("http://somebody:hunter2@{addr}/v1");
    let error = call(&client(Service { key: None, retries, ..service(&url) }, &clock())).await;
    let error = error.unwrap_err();
    assert!(matches!(error.failure, Failure::Unreachable(_)), "{error}");
    let text = format!("{error}{error:?}");
    assert!(text.contains(&addr.to_string()) && !text.contains("hunter2"), "{text}");
    for address in ["ftp://somebody:hunter2@host/", "hunter2", "http://"] {
        let made = Upstream::new(service(address), metrics().upstream, Arc::new(clock()));
        let error = made.err().expect("no client");
        assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
    }
    let key = Some(Secret::from("two\nlines".to_owned()));
    let made = Upstream::new(
        Service { key, ..service("http://127.0.0.1:1") },
        metrics().upstream,
        Arc::new(clock()),
    );
    assert!(made.err().expect("no client").to_string().contains("its key holds"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let stub =
        Stub::start(|_, _| Reply::json(307, &json!({})).header("location", "/elsewhere")).await;
    let error = call(&upstream(&stub)).await.unwrap_err().to_string();
    assert!(
        error
            .ends_with("answered 307; redirects are not followed, set the address it redirects to")
    );
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn answers_keep_to_their_limits() {
    let stub = Stub::start(|_, seen| match seen.path.as_str() {
        "/v1/declared" => {
            Reply::json(200, &json!("x".repeat(2000))).header("content-length", "2002")
        }
        "/v1/large" => Reply::pieces(200, "text/plain", vec!["x".repeat(600); 2], End::Whole),
        "/v1/silent" => Reply::pieces(200, "text/plain", [""; 0], End::Never),
        "/v1/stops" => Reply::pieces(200, "text/plain", ["x"], End::Never),
        other => panic!("{other}"),
    })
    .await;
    let limits = Limits {
        first_byte: Duration::from_millis(60),
        silence: Duration::from_millis(60),
        response_bytes: 1000,
        ..Limits::default()
    };
    let upstream = client(Service { limits, ..service(&stub.url()) }, &clock());
    let mut labels = Vec::new();
    for path in ["/declared", "/large", "/silent", "/stops"] {
        labels.push(upstream.call(path, &json!({})).await.unwrap_err().failure.label());
    }
    assert_eq!(labels, ["too_large", "too_large", "timed_out", "timed_out"]);
    assert_eq!(stub.seen().len(), 4, "none of these is tried again");

    let limits = Limits { total: Duration::from_millis(60), ..Limits::default() };
    let upstream = client(Service { limits, ..service(&stub.url()) }, &clock());
    let error = upstream.call("/stops", &json!({})).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn the_breaker_opens_rests_and_recovers() {
    let stub = Stub::start(|n, _| if n < 3 { Reply::json(500, &json!({})) } else { ok() }).await;
    let clock = clock();
    let settings = Service {
        retries: Retries { max: 0, ..Retries::default() },
        breaker: BreakerSettings { failures: 2, cool_down: Duration::from_secs(30) },
        ..service(&stub.url())
    };
    let metrics = metrics();
    let upstream =
        Upstream::new(settings, metrics.upstream.clone(), Arc::new(clock.clone())).unwrap();
    let state = || {
        let text = metrics.prometheus_text();
        let line = text.lines().find(|line| line.starts_with("activekg_upstream_breaker_state{"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    for _ in 0..2 {
        assert!(call(&upstream).await.is_err());
    }
    assert_eq!((upstream.state(), state().as_str()), (BreakerState::Open, "2"));
    let error = call(&upstream).await.unwrap_err();
    assert!(error.to_string().ends_with("is left alone for another 30 s"), "{error}");
    assert_eq!(stub.seen().len(), 2);

    clock.advance(Duration::from_secs(30));
    assert!(call(&upstream).await.is_err(), "the call that finds out fails");
    clock.advance(Duration::from_secs(29));
    assert!(call(&upstream).await.is_err());
    assert_eq!(stub.seen().len(), 3);
    clock.advance(Duration::from_secs(1));
    call(&upstream).await.unwrap();
    assert_eq!((upstream.state(), state().as_str()), (BreakerState::Closed, "0"));
}

#[tokio::test]
async fn refusals_do_not_open_the_breaker() {
    let stub = Stub::start(|_, _| Reply::json(400, &json!({}))).await;
    let breaker = BreakerSettings { failures: 1, ..BreakerSettings::default() };
    let upstream = client(Service { breaker, ..service(&stub.url()) }, &clock());
    for _ in 0..3 {
        assert!(call(&upstream).await.is_err());
    }
    assert_eq!((upstream.state(), stub.seen().len()), (BreakerState::Closed, 3));
}

#[tokio::test]
async fn streams_come_in_pieces_and_a_break_is_told() {
    let stub = Stub::start(|n, _| {
        let end = if n == 0 { End::Whole } else { End::Broken };
        Reply::events(["data: 1\n\n", "data: 2\n\n"], end)
    })
    .await;
    let breaker = BreakerSettings { failures: 1, ..BreakerSettings::default() };
    let upstream = client(Service { breaker, ..service(&stub.url()) }, &clock());
    let mut pieces = upstream.stream("/chat", &json!({})).await.unwrap();
    assert_eq!(pieces.media_type(), Some("text/event-stream"));
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        whole.extend(piece.unwrap());
    }
    assert_eq!(whole, b"data: 1\n\ndata: 2\n\n");

    let mut pieces = upstream.stream("/chat", &json!({})).await.unwrap();
    let error = loop {
        match pieces.next().await.expect("an error before the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error.failure, Failure::BrokeOff(_)), "{error}");
    assert!(pieces.next().await.is_none());
    assert_eq!(upstream.state(), BreakerState::Open);
    assert_eq!(stub.seen().len(), 2, "an answer that has begun is not begun again");
}

#[tokio::test]
async fn only_so_many_calls_are_under_way() {
    let stub = Stub::start(|_, _| ok()).await;
    let limits = Limits { in_flight: 1, total: Duration::from_millis(100), ..Limits::default() };
    let upstream = client(Service { limits, ..service(&stub.url()) }, &clock());
    let held = upstream.stream("/chat", &json!({})).await.unwrap();
    let error = call(&upstream).await.unwrap_err();
    assert!(error.to_string().ends_with("too many calls are under way"), "{error}");
    drop(held);
    let limits = Limits { in_flight: 1, ..Limits::default() };
    let upstream = client(Service { limits, ..service(&stub.url()) }, &clock());
    for outcome in join_all((0..4).map(|_| call(&upstream))).await {
        outcome.unwrap();
    }
}
