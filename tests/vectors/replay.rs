//! Sends the recorded requests of an area and reports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::case::{Area, Case, Expected, Part, Poll, Recorded, Repeat, Step};
use super::compare::{self, Context, filled, is_uuid};
use super::deviations::Deviations;
use super::{bucket, file};
use crate::common::models::Models;
use crate::common::{Answer, Form, Options, Request, Server};

const MODEL: &str = "all-MiniLM-L6-v2";

/// Settings of every area, under which the recordings were made.
const BASE_ENV: &[(&str, &str)] = &[
    ("EMBEDDING_BACKEND", "sentence-transformers"),
    ("EMBEDDING_MODEL", MODEL),
    // Near ties come in the order of the recordings on every processor.
    ("EMBEDDING_PRECISION", "f32"),
    ("EMBEDDING_ASYNC", "false"),
    ("LLM_ENABLED", "false"),
    ("AUTHZ_MODE", "tenant"),
    ("JWT_ENABLED", "false"),
    ("RATE_LIMIT_ENABLED", "false"),
    ("RUN_SCHEDULER", "false"),
    ("RUN_GCS_POLLER", "false"),
    ("RUN_CONNECTOR_WORKER", "false"),
    // A published sample key.
    ("CONNECTOR_KEK_V1", "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM="),
];

/// Areas recorded with nobody taking jobs from the embedding queue.
const WITHOUT_WORKER: &[&str] = &["asynccap"];

/// Where the language model was when it was recorded, and what it says.
const RECORDED_MODEL: &str = "http://127.0.0.1:59001/v1";
const MODEL_SAYS: [&str; 4] = ["Stub ", "answer ", "with one ", "source [0]."];

/// One area being replayed.
pub(super) struct Replay {
    name: String,
    cases: Vec<Case>,
    server: Server,
    captured: BTreeMap<String, String>,
    deviations: Deviations,
    passed: usize,
    deviating: usize,
    later: usize,
    failures: String,
}

impl Replay {
    /// A server for the area, on an empty store.
    pub(super) fn of(area: &str) -> Self {
        let Area { env, cases, .. } = Area::read(&file(area));
        let name = area.trim_end_matches('_').to_owned();
        let mut options = Options::new(BASE_ENV);
        if WITHOUT_WORKER.contains(&name.as_str()) {
            options = options.set("RUN_EMBEDDING_WORKER", "false");
        }
        for (variable, value) in &env {
            // The recorded language model is one of this machine, at a port of its own.
            let value = match value.as_str() {
                RECORDED_MODEL => Models::saying(&MODEL_SAYS).url("/v1"),
                value => value.to_owned(),
            };
            options = options.set(variable, &value);
        }
        options = options.set("AWS_ENDPOINT_URL_S3", &bucket::address());
        Self {
            name,
            cases,
            server: options.start(),
            captured: BTreeMap::new(),
            deviations: Deviations::read(),
            passed: 0,
            deviating: 0,
            later: 0,
            failures: String::new(),
        }
    }

    /// Replays everything, then fails if anything was not as expected.
    pub(super) fn run(mut self) {
        for case in std::mem::take(&mut self.cases) {
            match (&case.step, &case.id) {
                (Some(Step::Restart), _) => {
                    let changes: Vec<_> = case
                        .env
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()))
                        .collect();
                    self.server.terminate();
                    self.server.start_again(&changes);
                }
                (Some(Step::Sleep), _) => {
                    thread::sleep(Duration::from_secs_f64(
                        case.seconds.expect("a sleep has a length"),
                    ));
                }
                (None, Some(id)) => self.replay(&id.clone(), &case),
                (None, None) => panic!("{} {} is neither case nor step", self.name, case.number),
            }
        }
        for row in self.deviations.unused(&self.name) {
            let _ = writeln!(
                self.failures,
                "{row}: the table of deviations has it, the recording has not"
            );
        }
        let Self { name, passed, deviating, later, failures, .. } = &self;
        println!(
            "{name}: {passed} passed as recorded, {deviating} deviate by a rule, {later} come later"
        );
        assert!(failures.is_empty(), "{name}:\n{failures}");
    }

    fn replay(&mut self, id: &str, case: &Case) {
        let recorded = case.request.as_ref().expect("a case has a request");
        let response = case.response.as_ref().expect("a case has a response");
        let deviation = self.deviations.of(id);
        let expected =
            deviation.as_ref().map_or_else(|| response.clone(), |row| row.instead(response));
        let request = self.request(recorded);

        let faults = match (&case.repeat, &case.poll) {
            (Some(repeat), _) => self.repeated(&request, repeat, &expected, recorded, case),
            (None, Some(poll)) if deviation.is_none() => {
                let answer = self.polled(&request, poll);
                self.checked(&expected, &answer, recorded, case)
            }
            (None, _) => {
                let answer = self.server.send(&request);
                let mut faults = self.checked(&expected, &answer, recorded, case);
                let needed = deviation.as_ref().is_none_or(|row| row.sometimes)
                    || !self.checked(response, &answer, recorded, case).is_empty();
                if !needed {
                    faults.push(
                        "the answer is the recorded one: its deviation is not needed".to_owned(),
                    );
                }
                faults
            }
        };
        if !faults.is_empty() {
            let _ = writeln!(self.failures, "{id} ({} {})", request.method, request.target);
            for fault in faults {
                let _ = writeln!(self.failures, "    {fault}");
            }
            return;
        }
        match deviation {
            None => self.passed += 1,
            Some(row) if row.later.is_some() => self.later += 1,
            Some(_) => self.deviating += 1,
        }
    }

    /// The faults of an answer. What the case captures is captured first: the recorded answer
    /// names its own captures.
    fn checked(
        &mut self,
        expected: &Expected,
        answer: &Answer,
        recorded: &Recorded,
        case: &Case,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let succeeded = answer.status < 300;
        for (name, pointer) in case.capture.iter().filter(|_| succeeded) {
            match answer.json().pointer(pointer) {
                Some(Value::String(id)) if is_uuid(id) => {
                    self.captured.insert(name.clone(), id.clone());
                }
                other => faults.push(format!("{pointer}: expected an id, found {other:?}")),
            }
        }
        let host = self.server.addr().to_string();
        let uses_hybrid = recorded.json.as_ref().and_then(|body| body.get("use_hybrid"));
        let context = Context {
            host: &host,
            model: MODEL,
            captured: &self.captured,
            fused: uses_hybrid == Some(&Value::Bool(true)),
        };
        faults.extend(compare::faults(expected, answer, case.mode, &context));
        faults
    }

    fn polled(&self, request: &Request, poll: &Poll) -> Answer {
        let deadline = Instant::now() + Duration::from_secs_f64(poll.timeout_s);
        loop {
            let answer = self.server.send(request);
            let there = answer.json().pointer(&poll.pointer) == Some(&poll.equals);
            if there || Instant::now() > deadline {
                return answer;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends many, beginning with a new second of the clock, and compares how often each status
    /// came and the first answer of each.
    fn repeated(
        &mut self,
        request: &Request,
        repeat: &Repeat,
        expected: &Expected,
        recorded: &Recorded,
        case: &Case,
    ) -> Vec<String> {
        assert_eq!(repeat.parallel, 1, "requests are repeated one after the other");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        thread::sleep(Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos())));
        let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
        for _ in 0..repeat.count {
            let answer = self.server.send(request);
            answers.entry(answer.status.to_string()).or_default().push(answer);
        }
        let statuses: BTreeMap<String, usize> =
            answers.iter().map(|(status, answers)| (status.clone(), answers.len())).collect();
        let mut faults = Vec::new();
        if expected.statuses.as_ref() != Some(&statuses) {
            faults.push(format!("statuses: expected {:?}, found {statuses:?}", expected.statuses));
        }
        for (status, example) in &expected.examples {
            if let Some(first) = answers.get(status).and_then(|answers| answers.first()) {
                faults.extend(self.checked(example, first, recorded, case));
            }
        }
        faults
    }

    fn request(&self, recorded: &Recorded) -> Request {
        let Recorded { method, path, headers, json, raw, generated, multipart, chunked, auth } =
            recorded;
        let mut request = Request::new(method, filled(path, &self.captured));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(auth) = auth {
            request = request.bearer(&auth.token());
        }
        if let Some(json) = json {
            request = request.raw(filled(&json.to_string(), &self.captured));
        } else if let Some(raw) = raw {
            request = request.raw(filled(raw, &self.captured));
        } else if let Some(generated) = generated {
            request = request.raw(generated.text());
        } else if let Some(parts) = multipart {
            request = form(parts).of(request);
        }
        if *chunked { request.chunked() } else { request }
    }
}

fn form(parts: &[Part]) -> Form {
    let mut form = Form::default();
    for Part { field, filename, content_type, text, base64, generated } in parts {
        let content = match (text, base64, generated) {
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(encoded), None) => {
                STANDARD.decode(encoded).expect("recorded parts are valid base64")
            }
            (None, None, Some(generated)) => generated.text().into_bytes(),
            _ => panic!("part {field} has not exactly one content"),
        };
        form = form.part(field, filename.as_deref(), content_type.as_deref(), content);
    }
    form
}
