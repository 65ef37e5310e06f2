//! The cryptography of outgoing connections.

/// A builder of clients that speak plain HTTP to this machine. It looks for no certificates, which
/// not every machine has.
pub fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_certs_only([])
}

/// Chooses it for the whole process: before the first client is made, once or more often.
pub fn init() {
    // Somebody else chose already: the same.
    drop(rustls::crypto::ring::default_provider().install_default());
}
