//! The cryptography of outgoing connections.

use std::sync::Arc;

use reqwest::{Certificate, Client, ClientBuilder};
use tracing::info;

use crate::names::{Checked, SystemNames};

/// A builder of clients that speak plain HTTP to this machine. It looks for no certificates, which
/// not every machine has.
pub fn plain() -> reqwest::ClientBuilder {
    client().tls_certs_only([])
}

/// A builder of clients that find hosts without the C library.
fn client() -> ClientBuilder {
    Client::builder().dns_resolver(Arc::new(Checked::new(SystemNames::default(), |_| Ok(()))))
}

/// A client for services on the web, set up by `configured`. It trusts what this machine trusts:
/// the file that `SSL_CERT_FILE` names, or else the system's own store. Where neither has a
/// certificate, as in an empty root, it trusts the authorities that Mozilla does, which are
/// compiled in.
///
/// # Errors
///
/// When no client can be made by `configured`.
pub fn web(configured: impl Fn(ClientBuilder) -> ClientBuilder) -> reqwest::Result<Client> {
    // It fails without any certificate; what else makes it fail shows the second time as well.
    match configured(client()).build() {
        Ok(client) => Ok(client),
        Err(_) => {
            let client = configured(compiled_in(client())).build()?;
            info!("no certificates on this machine: the compiled-in authorities are trusted");
            Ok(client)
        }
    }
}

/// Trust in the authorities that are compiled in, and in no others.
fn compiled_in(builder: ClientBuilder) -> ClientBuilder {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    builder.tls_certs_only(roots.iter().filter_map(|root| Certificate::from_der(root).ok()))
}

/// Chooses it for the whole process: before the first client is made, once or more often.
pub fn init() {
    // Somebody else chose already: the same.
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_authorities_are_enough_for_a_client() {
        init();
        compiled_in(client()).build().unwrap();
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert!(roots.len() > 100, "{}", roots.len());
        assert!(roots.iter().all(|root| Certificate::from_der(root).is_ok()));
    }

    #[test]
    fn a_client_for_the_web_is_made_on_any_machine() {
        init();
        web(|builder| builder.no_proxy()).unwrap();
    }
}
