//! `activekg serve`: the server until a signal stops it.

use std::any::TypeId;
use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::banner;
use crate::config::options::NumberedKey;
use crate::config::{Config, Options, Secret, Shown, fingerprint, masked};
use crate::observability::logs;
use crate::shutdown::Signals;
use crate::startup;

/// Serve the HTTP API
///
/// Every setting is a flag and an environment variable; a flag wins, an empty variable counts as unset.
/// Booleans are true/1/yes/on and false/0/no/off. Logs are JSON lines on stdout, or plain text when
/// stdout is a terminal; --log-file has them as well, and opens it anew on SIGHUP. SIGTERM or Ctrl-C stops the server in order.
#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    options: Options,
    /// What was given, for those who look after the server.
    #[arg(skip)]
    shown: Vec<Shown>,
}

impl ServeArgs {
    /// Notes which settings were given. What is secret is noted by its fingerprint.
    pub(super) fn note(&mut self, given: &ArgMatches) {
        let command = Self::augment_args(Command::new("serve"));
        for argument in command.get_arguments() {
            let (Some(name), Some(values)) =
                (argument.get_env(), given.try_get_raw(argument.get_id().as_str()).ok().flatten())
            else {
                continue;
            };
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            let text = values.join(",");
            if text.trim().is_empty() {
                continue;
            }
            let is_secret = argument.get_value_parser().type_id() == TypeId::of::<Secret>();
            let value = match is_secret {
                true => fingerprint(&Secret::from(text)),
                false => masked(&text),
            };
            let source = match given.value_source(argument.get_id().as_str()) {
                Some(ValueSource::CommandLine) => "flag",
                _ => "variable",
            };
            self.shown.push(Shown { setting: name.to_string_lossy().into_owned(), value, source });
        }
        for NumberedKey { version, key, file } in &self.options.keys.further {
            let name = format!("CONNECTOR_KEK_V{version}");
            let keys = key.as_ref().map(|key| (name.clone(), fingerprint(key)));
            let files = file.as_ref().map(|file| (format!("{name}_FILE"), file.clone()));
            for (setting, value) in keys.into_iter().chain(files) {
                self.shown.push(Shown { setting, value, source: "variable" });
            }
        }
    }
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config { shown: args.shown.clone(), ..Config::new(&args.options)? };
    let log_file = logs::init(&config.observability)?;
    let first_run = is_empty(&config.store.data_dir);
    super::runtime_of(config.store.pool_size)?.block_on(async {
        if let Some(file) = log_file {
            tokio::spawn(logs::reopen_on_hangup(file));
        }
        // Before anybody is answered: who is may stop the server at once. On a thread of its own,
        // for much of a start keeps this one busy.
        let mut signals = Signals::listen().context("listen for signals")?;
        let (started, has_started) = oneshot::channel();
        let waiting = tokio::spawn(async move {
            tokio::select! {
                _ = has_started => signals,
                signal = signals.next() => {
                    info!(signal, "stopped while starting; the store is whole at any moment");
                    std::process::exit(0);
                }
            }
        });
        let server = startup::start(config.clone()).await?;
        let _ = started.send(()); // it waits for nothing else
        let signals = waiting.await.context("listen for signals")?;
        // Logs own stdout. Later starts without a person watching need no banner.
        if first_run || std::io::stderr().is_terminal() {
            eprintln!("{}", banner::text(&config, server.addr));
        }
        let access = banner::access(&config);
        info!(authentication = access.tokens, authorization = access.mode, "{}", access.sentence);
        if let Some(problem) = server.app().authenticator.problem() {
            error!("every request that needs a token is turned away: {problem}");
        }
        signals.first().await;
        server.stop().await;
        Ok(())
    })
}

/// Whether the folder holds nothing yet.
fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}
