//! A page on this machine whose text can be changed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// The page. It ends with the tests, or when it is taken down.
pub(crate) struct Page {
    addr: SocketAddr,
    text: Arc<Mutex<Option<String>>>,
}

impl Page {
    pub(crate) fn new(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let text = Arc::new(Mutex::new(Some(text.to_owned())));
        let served = text.clone();
        thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request);
                // A page that was taken down hangs up.
                let Some(text) = served.lock().expect("not poisoned").clone() else { continue };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    text.len()
                );
                let _ = connection.write_all(head.as_bytes());
                let _ = connection.write_all(text.as_bytes());
            }
        });
        Self { addr, text }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    pub(crate) fn change_to(&self, text: &str) {
        *self.text.lock().expect("not poisoned") = Some(text.to_owned());
    }

    pub(crate) fn take_down(&self) {
        *self.text.lock().expect("not poisoned") = None;
    }
}
