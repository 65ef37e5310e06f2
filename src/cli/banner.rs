//! What a person should know when a server starts.

use std::net::SocketAddr;

use crate::config::{AuthzMode, Config, Llm};
use crate::observability::build_info;

/// Who may do what, in words.
pub(super) struct Access {
    /// `jwt` or `off`.
    pub(super) tokens: &'static str,
    /// The word of `AUTHZ_MODE`.
    pub(super) mode: &'static str,
    /// Both as a sentence.
    pub(super) sentence: &'static str,
}

pub(super) fn access(config: &Config) -> Access {
    let mode = config.auth.authz_mode;
    let (tokens, sentence) = match (&config.auth.jwt, mode) {
        (None, _) => ("off", "open: every route answers without a token"),
        (Some(_), AuthzMode::Tenant) => {
            ("jwt", "a valid token may use all data of its tenant; administration needs a scope")
        }
        (Some(_), AuthzMode::Scopes) => ("jwt", "a valid token may do what its scopes say"),
    };
    Access { tokens, mode: mode.as_str(), sentence }
}

/// Address, data, access, answers; a line each, and how to change what should be changed.
pub(super) fn text(config: &Config, address: SocketAddr) -> String {
    let mut lines = vec![
        format!("activekg {}", build_info::FULL),
        row("address", &format!("http://{address}  (API pages: http://{address}/docs)")),
        row("data", &config.store.data_dir.display().to_string()),
    ];
    let access = access(config);
    let reach = if address.ip().is_loopback() {
        ", from this machine only"
    } else {
        ", from other machines too"
    };
    if config.auth.jwt.is_none() {
        lines.push(row("access", &format!("{}{reach}", access.sentence)));
        lines.push(row("", "close it: JWT_ENABLED=true JWT_ALGORITHM=HS256 JWT_SECRET_KEY=\"$(head -c 32 /dev/urandom | base64)\""));
    } else {
        lines.push(row("access", access.sentence));
    }
    lines.push(row(
        "authz",
        &format!("AUTHZ_MODE={}{}", access.mode, recommendation(config.auth.authz_mode)),
    ));
    lines.push(row("answers", &writer(&config.llm)));
    lines.join("\n")
}

fn recommendation(mode: AuthzMode) -> &'static str {
    match mode {
        AuthzMode::Tenant => {
            "  (AUTHZ_MODE=scopes is recommended: each route then needs its scope)"
        }
        AuthzMode::Scopes => "",
    }
}

fn writer(llm: &Llm) -> String {
    match llm {
        Llm::Off => "off (LLM_ENABLED=false)".to_owned(),
        Llm::Extractive => "the best sentences of what is found, cited; no model".to_owned(),
        Llm::Local(local) => format!("the model in {}", local.path.display()),
        Llm::Remote(remote) => {
            format!("{} at {}", remote.route.model, remote.route.service.backend)
        }
        Llm::Misconfigured(reason) => format!("off: {reason}"),
    }
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<9}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    fn banner(variables: &[(&str, &str)]) -> String {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = Config::new(&Options::from_lookup(lookup).unwrap()).unwrap();
        text(&config, config.server.bind)
    }

    #[test]
    fn an_open_server_says_how_to_close_it() {
        let banner = banner(&[("ACTIVEKG_DATA_DIR", "/srv/kg")]);
        for part in [
            "http://127.0.0.1:8000",
            "/srv/kg",
            "without a token, from this machine only",
            "close it: JWT_ENABLED=true",
            "AUTHZ_MODE=scopes is recommended",
        ] {
            assert!(banner.contains(part), "{part} in\n{banner}");
        }
    }

    #[test]
    fn a_closed_server_shows_no_secret() {
        let secret = "0123456789abcdef0123456789abcdef";
        let closed = banner(&[
            ("ACTIVEKG_DATA_DIR", "/srv/kg"),
            ("ACTIVEKG_BIND", "0.0.0.0:80"),
            ("JWT_ENABLED", "true"),
            ("JWT_ALGORITHM", "HS256"),
            ("JWT_SECRET_KEY", secret),
            ("AUTHZ_MODE", "scopes"),
        ]);
        assert!(closed.contains("what its scopes say") && !closed.contains("close it"), "{closed}");
        assert!(!closed.contains(secret));
    }
}
