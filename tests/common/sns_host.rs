//! A host that a server under test takes for `sns.eu-west-1.amazonaws.com`: it reaches it through a
//! proxy of this machine and trusts its certificate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::server::Options;
use super::sns;

/// The host. It ends with the tests.
pub(crate) struct SnsHost {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl SnsHost {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (config, seen) = (Arc::new(config()), asked.clone());
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (config, seen) = (config.clone(), seen.clone());
                thread::spawn(move || serve(connection, config, &seen));
            }
        });
        Self { addr, asked }
    }

    /// The settings of a server that takes this host for that of SNS.
    pub(crate) fn known_to(&self, options: Options) -> Options {
        let proxy = format!("http://{}", self.addr);
        options
            .set("HTTPS_PROXY", &proxy)
            .set("SSL_CERT_FILE", &format!("{}/tls-ca.pem", sns::folder()))
    }

    /// The paths that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn config() -> ServerConfig {
    let pem = std::fs::read(format!("{}/tls.pem", sns::folder())).expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(sns::KEY.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit")
}

/// Answers one request, as the proxy first and as the host then.
fn serve(mut connection: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(connection.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    if !head.starts_with(b"CONNECT sns.eu-west-1.amazonaws.com:443 ") {
        return;
    }
    let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let Ok(tls) = ServerConnection::new(config) else { return };
    let mut stream = BufReader::new(StreamOwned::new(tls, connection));
    let mut line = String::new();
    let Ok(1..) = stream.read_line(&mut line) else { return };
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut rest = String::new();
    while matches!(stream.read_line(&mut rest), Ok(1..)) && !rest.ends_with("\r\n\r\n") {}
    let file = format!("{}{}", sns::folder(), path);
    let (status, body) = match std::fs::read(file) {
        Ok(pem) if path.ends_with(".pem") => ("200 OK", pem),
        _ if path.starts_with("/?Action=ConfirmSubscription") => ("200 OK", b"<xml/>".to_vec()),
        _ => ("404 Not Found", Vec::new()),
    };
    seen.lock().expect("not poisoned").push(path);
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let stream = stream.get_mut();
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
