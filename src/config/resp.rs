//! The listener for Redis clients.

use std::net::SocketAddr;

use super::options::RespOptions;
use super::{ConfigError, Secret, read};

/// The listener for Redis clients.
#[derive(Clone)]
pub struct Resp {
    /// Where it listens, on this machine; `None` = it does not.
    pub listen: Option<SocketAddr>,
    /// What clients must know.
    pub password: Option<Secret>,
}

impl Resp {
    /// What the settings mean. Where `tokens` are on, a listener needs a password.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &RespOptions, tokens: bool) -> Result<Self, ConfigError> {
        let RespOptions { resp_listen, resp_password } = options;
        let setting = "ACTIVEKG_RESP_LISTEN";
        let listen = match read::text(resp_listen) {
            None => None,
            Some(text) => match text.parse::<SocketAddr>() {
                Ok(listen) if listen.ip().is_loopback() => Some(listen),
                Ok(listen) => {
                    let fault = format!(
                        "{listen} can be reached by other machines; it must be an address of this one, such as 127.0.0.1:6379"
                    );
                    return Err(ConfigError::new(setting, fault));
                }
                Err(_) => {
                    let fault =
                        format!("{text:?} is not an address and a port such as 127.0.0.1:6379");
                    return Err(ConfigError::new(setting, fault));
                }
            },
        };
        let password = Secret::given(resp_password);
        if listen.is_some() && password.is_none() && tokens {
            let fault = "must be set where JWT_ENABLED=true: without it whoever is on this machine could throw away what waits in queues";
            return Err(ConfigError::new("ACTIVEKG_RESP_PASSWORD", fault.to_owned()));
        }
        Ok(Self { listen, password })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn it_listens_on_this_machine_or_not_at_all() {
        assert!(config(&[]).unwrap().resp.listen.is_none());
        let set = [("ACTIVEKG_RESP_LISTEN", "127.0.0.1:6379"), ("ACTIVEKG_RESP_PASSWORD", "pw")];
        let resp = config(&set).unwrap().resp;
        assert_eq!(resp.listen.map(|listen| listen.port()), Some(6379));
        assert!(resp.password.is_some());
        for bad in ["0.0.0.0:6379", "10.0.0.1:6379", "localhost", "6379"] {
            let text = fault(&[("ACTIVEKG_RESP_LISTEN", bad)]);
            assert!(text.starts_with("ACTIVEKG_RESP_LISTEN: "), "{text}");
        }
    }

    #[test]
    fn where_tokens_are_on_it_has_a_password() {
        let tokens = [
            ("JWT_ENABLED", "true"),
            ("JWT_ALGORITHM", "HS256"),
            ("JWT_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
            ("ACTIVEKG_RESP_LISTEN", "[::1]:6379"),
        ];
        assert!(fault(&tokens).starts_with("ACTIVEKG_RESP_PASSWORD: must be set"));
    }
}
