//! Settings of the listener for Redis clients.

use clap::Args;

use super::super::Secret;

/// The listener for Redis clients.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Redis clients")]
pub struct RespOptions {
    /// Address of this machine to listen on for Redis clients, such as 127.0.0.1:6379 [default: none]
    #[arg(long = "resp-listen", env = "ACTIVEKG_RESP_LISTEN", value_name = "ADDR")]
    pub resp_listen: Option<String>,
    /// Password that Redis clients must give; needed where tokens are on
    #[arg(long = "resp-password", env = "ACTIVEKG_RESP_PASSWORD", value_name = "PASSWORD")]
    pub resp_password: Option<Secret>,
}
