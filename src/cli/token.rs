//! `activekg token mint`: a token for development and for first steps.

use std::io::Write as _;

use activekg_storage::ids::TenantId;
use activekg_storage::time::{Clock as _, SystemClock};
use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use crate::auth::{self, NewToken, Scope};
use crate::config::options::AuthOptions;
use crate::config::{ConfigError, Jwt, JwtAlgorithm, JwtKey};

const HOW_TO_SET: &str = "mint signs with the server's own secret (HS256), so both need the same settings:\n    \
    export JWT_ENABLED=true JWT_ALGORITHM=HS256 JWT_SECRET_KEY=\"$(head -c 32 /dev/urandom | base64)\"";
const DAY: u64 = 24 * 60 * 60;
/// A token nobody can take back should not outlive those who remember it.
const TTL_MAX: u64 = 366 * DAY;

/// Make tokens
#[derive(Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Sign a token with the secret in JWT_SECRET_KEY and print it
    ///
    /// For servers with JWT_ALGORITHM=HS256. Secret, audience and issuer are read as `serve` reads them, so with
    /// the same variables set the server accepts the token. Servers with a public key take tokens from whoever
    /// holds the private one.
    Mint(Box<MintArgs>),
}

#[derive(Args)]
struct MintArgs {
    /// The tenant whose data the bearer may use
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Who the bearer is
    #[arg(long, default_value = "developer")]
    sub: String,
    /// What the bearer may do, separated by commas or spaces: search:read, ask:read, kg:write, admin:refresh, super_admin
    #[arg(long, alias = "scope", default_value = "search:read,ask:read,kg:write")]
    scopes: String,
    /// How long the token counts: 90s, 15m, 12h or 30d, at most 366d
    #[arg(long, default_value = "1h")]
    ttl: String,
    #[command(flatten)]
    auth: AuthOptions,
}

pub(super) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let TokenCommand::Mint(args) = &args.command;
    let jwt = Jwt::new(&args.auth)?;
    if jwt.algorithm != JwtAlgorithm::Hs256 {
        return Err(setting(
            "JWT_ALGORITHM",
            format!("is {}; {HOW_TO_SET}", jwt.algorithm.as_str()),
        ));
    }
    if !matches!(jwt.key, JwtKey::Secret(_)) {
        return Err(setting("JWT_SECRET_KEY", format!("is not set; {HOW_TO_SET}")));
    }
    let scopes = scopes(&args.scopes)?;
    let token = NewToken {
        tenant: TenantId::new(&args.tenant).context("use --tenant")?,
        sub: args.sub.clone(),
        scopes,
        ttl_seconds: seconds(&args.ttl)?,
    };
    ensure!(!token.sub.is_empty(), "--sub must not be empty");
    let now = SystemClock.now().get() / 1_000_000;
    writeln!(std::io::stdout(), "{}", auth::mint(&jwt, &token, now).context("sign the token")?)?;
    Ok(())
}

fn setting(name: &'static str, fault: String) -> anyhow::Error {
    ConfigError::new(name, fault).into()
}

/// Names a route can ask for, checked because a mistyped scope allows nothing and says so nowhere.
fn scopes(list: &str) -> anyhow::Result<Vec<String>> {
    let names: Vec<&str> = list.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    for name in &names {
        if !Scope::ALL.iter().any(|scope| scope.as_str() == *name) {
            let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            bail!("--scopes: {name:?} is not one of {}", known.join(", "));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn seconds(ttl: &str) -> anyhow::Result<u64> {
    let (number, unit) = match ttl.char_indices().next_back() {
        Some((at, 's')) => (&ttl[..at], 1),
        Some((at, 'm')) => (&ttl[..at], 60),
        Some((at, 'h')) => (&ttl[..at], 3600),
        Some((at, 'd')) => (&ttl[..at], DAY),
        _ => (ttl, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=TTL_MAX) => Ok(seconds),
        _ => bail!("--ttl: {ttl:?} is not a time such as 90s, 15m, 12h or 30d, up to 366d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in
            [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)]
        {
            assert_eq!(seconds(text).unwrap(), expected);
        }
        for text in ["", "h", "0", "-1h", "1w", "367d", "99999999999999999999d", "1.5h", "ü"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistyped_scopes_are_named() {
        assert_eq!(scopes("kg:write, admin:refresh").unwrap(), ["kg:write", "admin:refresh"]);
        assert_eq!(scopes("").unwrap(), [""; 0]);
        assert!(
            scopes("admin:refesh")
                .unwrap_err()
                .to_string()
                .contains("\"admin:refesh\" is not one of search:read")
        );
    }
}
