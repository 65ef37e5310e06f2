//! A service of models on this machine: chat completions and embeddings as OpenAI has them, and
//! embeddings as Ollama has them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// Numbers in a vector of this service.
pub(crate) const DIM: usize = 64;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// What a chat answers, in pieces.
type Words = &'static [&'static str];

/// The service. A chat answers always the same; one in which `FAILNOW` occurs fails with 500, and
/// one with `BREAKOFF` in the middle. It ends with the tests.
pub(crate) struct Models {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Models {
    /// One whose chats answer `Kit SK-7 [0].`.
    pub(crate) fn start() -> Self {
        Self::saying(&["Kit ", "SK-7 ", "[0]."])
    }

    pub(crate) fn saying(words: Words) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let all = all.clone();
                // A caller that goes away is nobody's fault.
                thread::spawn(move || serve(stream, &all, words).ok());
            }
        });
        Self { addr, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Seen>>, words: Words) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = answer(&path, &body, words);
    all.lock().expect("no holder panics").push(Seen { path, authorization, body });
    let Answer { status, media_type, body, cut } = answer;
    let length = body.len() + usize::from(cut) * 1000;
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

struct Answer {
    status: u16,
    media_type: &'static str,
    body: String,
    /// Less comes than was announced.
    cut: bool,
}

fn answer(path: &str, body: &Value, words: Words) -> Answer {
    let json = |status, body: Value| Answer {
        status,
        media_type: "application/json",
        body: body.to_string(),
        cut: false,
    };
    match path {
        "/v1/chat/completions" => chat(body, words),
        "/v1/embeddings" => {
            let vectors = vectors(body).into_iter().enumerate();
            let data: Vec<Value> = vectors
                .map(|(index, vector)| json!({"index": index, "embedding": vector}))
                .collect();
            json(200, json!({"data": data, "usage": {"total_tokens": 5}}))
        }
        "/api/embed" => json(200, json!({"embeddings": vectors(body), "prompt_eval_count": 5})),
        _ => json(404, json!({"error": "not found"})),
    }
}

fn chat(body: &Value, words: Words) -> Answer {
    let asked = body["messages"][1]["content"].as_str().unwrap_or_default();
    let media_type = "text/event-stream";
    if asked.contains("FAILNOW") {
        let said = json!({"error": {"message": "FAILNOW sk-Secret-1", "type": "server_error"}});
        let body = said.to_string();
        return Answer { status: 500, media_type: "application/json", body, cut: false };
    }
    let event = |text: &str| {
        format!("data: {}\r\n\r\n", json!({"choices": [{"delta": {"content": text}}]}))
    };
    let (last, before) = words.split_last().expect("a chat says something");
    let mut text = ": hello\r\n\r\n".to_owned();
    text.extend(before.iter().map(|word| event(word)));
    let cut = asked.contains("BREAKOFF");
    if !cut {
        text += &event(last);
        text += "data: [DONE]\r\n\r\n";
    }
    Answer { status: 200, media_type, body: text, cut }
}

/// Vectors by words: each word has a place, so that texts with words in common are near.
fn vectors(body: &Value) -> Vec<Vec<f64>> {
    let texts = body["input"].as_array().cloned().unwrap_or_default();
    let vector = |text: &Value| {
        let mut vector = vec![0.0; DIM];
        vector[0] = 0.01;
        for word in text.as_str().unwrap_or_default().split(|c: char| !c.is_alphanumeric()) {
            let bytes = word.to_lowercase().into_bytes();
            let place =
                bytes.iter().fold(7_usize, |sum, byte| (sum * 31 + usize::from(*byte)) % 997);
            vector[place % DIM] += 1.0;
        }
        vector
    };
    texts.iter().map(vector).collect()
}
