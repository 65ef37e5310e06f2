//! Where the server listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::options::ServerOptions;
use super::{ConfigError, read};

const PORT: u16 = 8000;

/// Address and version.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The version `/health` reports. It tells clients which API they meet, not which build.
    pub version: String,
    /// A non-loopback address without tokens is wanted.
    pub danger_open: bool,
    /// Longest time of going down in order, 1 s to an hour.
    pub shutdown_grace: Duration,
}

impl Server {
    pub(super) fn new(
        options: &ServerOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let ServerOptions {
            bind,
            host,
            port,
            danger_open,
            version,
            shutdown_grace_seconds,
            dev_tenant: _,
            rls_mode: _,
        } = options;
        let grace = read::number("SHUTDOWN_GRACE_SECONDS", shutdown_grace_seconds, 1..=3600_u64)?;
        let port = read::number("PORT", port, 0..=u16::MAX)?.unwrap_or(PORT);
        let bind = match read::text(bind) {
            Some(text) => address(text, port)?,
            None => SocketAddr::new(host_address(read::text(host), notices), port),
        };
        Ok(Self {
            bind,
            version: read::text(version).unwrap_or("1.0.0").to_owned(),
            danger_open: read::boolean("ACTIVEKG_DANGER_OPEN", danger_open, false)?,
            shutdown_grace: Duration::from_secs(grace.unwrap_or(30)),
        })
    }
}

/// `ACTIVEKG_BIND`: an address with a port, or an IP address that takes `port`. `localhost` is the
/// IPv4 loopback, other names are refused: what a name means can change after the check for loopback.
fn address(text: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    let numeric = match text.strip_prefix("localhost") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("127.0.0.1{rest}"),
        _ => text.to_owned(),
    };
    let bare = numeric.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    numeric.parse().map_err(|_| {
        let fault = format!(
            "{text:?} is not an IP address with a port, such as 127.0.0.1:8000 or [::1]:8000"
        );
        ConfigError::new("ACTIVEKG_BIND", fault)
    })
}

/// `HOST` counts only as an IP address: some shells put the machine's name there.
fn host_address(host: Option<&str>, notices: &mut Vec<String>) -> IpAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match host.map(|host| (host, host.parse())) {
        None => loopback,
        Some((_, Ok(ip))) => ip,
        Some((host, Err(_))) => {
            if host != "localhost" {
                notices.push(format!("HOST is ignored: {host:?} is not an IP address"));
            }
            loopback
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    fn bind(variables: &[(&str, &str)]) -> String {
        config(variables).unwrap().server.bind.to_string()
    }

    #[test]
    fn bind_wins_over_host_and_port() {
        assert_eq!(bind(&[("PORT", "9000")]), "127.0.0.1:9000");
        assert_eq!(bind(&[("HOST", "127.0.0.2"), ("PORT", "9000")]), "127.0.0.2:9000");
        assert_eq!(
            bind(&[("ACTIVEKG_BIND", "127.0.0.1:1"), ("HOST", "127.0.0.2"), ("PORT", "9")]),
            "127.0.0.1:1"
        );
        assert_eq!(bind(&[("ACTIVEKG_BIND", "[::1]:8080")]), "[::1]:8080");
        assert_eq!(bind(&[("ACTIVEKG_BIND", "::1"), ("PORT", "7")]), "[::1]:7");
        assert_eq!(bind(&[("ACTIVEKG_BIND", "127.0.0.3"), ("PORT", "7")]), "127.0.0.3:7");
        assert_eq!(bind(&[("ACTIVEKG_BIND", "localhost:81")]), "127.0.0.1:81");
    }

    #[test]
    fn a_machine_name_in_host_is_ignored() {
        let config = config(&[("HOST", "kitchen")]).unwrap();
        assert_eq!(config.server.bind.to_string(), "127.0.0.1:8000");
        assert_eq!(config.notices, ["HOST is ignored: \"kitchen\" is not an IP address"]);
    }

    #[test]
    fn going_down_has_its_time() {
        assert_eq!(config(&[]).unwrap().server.shutdown_grace.as_secs(), 30);
        let longer = config(&[("SHUTDOWN_GRACE_SECONDS", "60")]).unwrap();
        assert_eq!(longer.server.shutdown_grace.as_secs(), 60);
        assert!(fault(&[("SHUTDOWN_GRACE_SECONDS", "0")]).starts_with("SHUTDOWN_GRACE_SECONDS: "));
    }

    #[test]
    fn bad_addresses_are_named() {
        assert!(fault(&[("ACTIVEKG_BIND", "example.org:80")]).starts_with("ACTIVEKG_BIND: "));
        assert!(fault(&[("ACTIVEKG_BIND", "127.0.0.1:99999")]).starts_with("ACTIVEKG_BIND: "));
        assert!(fault(&[("PORT", "http")]).starts_with("PORT: \"http\""));
    }
}
