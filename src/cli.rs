//! The command line.
//!
//! Commands print what they were asked for on stdout and everything else on stderr. A failure is
//! one line there, and the exit code says what kind it is.

mod ask;
mod audit;
mod backup;
mod banner;
mod bus;
mod cache;
mod completions;
mod connectors;
mod dashboards;
mod db;
mod demo;
mod dlq;
mod embed;
mod embedding;
mod eval;
mod extract;
mod index;
mod keys;
mod mcp;
mod models;
mod net;
mod purge;
mod queue;
mod remote;
mod serve;
mod settings;
mod stats;
mod status;
mod support;
mod token;
mod workers;

use std::process::ExitCode;

use activekg_storage::OpenError;
use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::config::ConfigError;
use crate::observability::build_info;

/// Any other failure.
const FAILED: u8 = 1;
/// The command line or a setting is at fault; clap uses the same number.
const USAGE: u8 = 2;
/// The data directory is at fault.
const DATA_DIRECTORY: u8 = 3;

const AFTER_HELP: &str = "\
First steps:
  activekg demo                 load a small real corpus, search it, ask it something
  activekg serve                serve on 127.0.0.1:8000, data in ~/.local/share/activekg
  activekg serve --help         every setting, as a flag and as an environment variable

Exit codes:
  0  done
  1  failed
  2  the command line or a setting is wrong
  3  the data directory cannot be used: held by another process, written by a newer
     version, damaged, or not writable";

/// A self-refreshing knowledge graph with search and cited answers, in one file.
///
/// activekg keeps documents as nodes of a graph, finds them by meaning and by words, and answers
/// questions with citations. It needs no other service, no network and no model download.
#[derive(Parser)]
#[command(name = "activekg", version = build_info::FULL, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API
    Serve(Box<serve::ServeArgs>),
    /// Load a small real corpus into a fresh server, search it, ask it something
    Demo(demo::DemoArgs),
    /// Ask a running server a question
    Ask(Box<ask::AskArgs>),
    /// Serve the graph as tools to an editor or an agent, over standard input and output
    Mcp(Box<mcp::McpArgs>),
    /// Look after the store
    Db(db::DbArgs),
    /// Turn texts into vectors: JSON lines in, JSON lines out
    Embed(embed::EmbedArgs),
    /// Measure search quality on judged queries
    Eval(eval::EvalArgs),
    /// Make tokens
    Token(token::TokenArgs),
    /// Make, list, check and restore backups
    Backup(backup::BackupArgs),
    /// Restore a backup: the same as `backup restore`, with the archive named by its day too
    Restore(Box<backup::RestoreArgs>),
    /// Look after the queues of a running server
    Queue(queue::QueueArgs),
    /// Look after what the queues of a running server gave up
    Dlq(dlq::DlqArgs),
    /// List, add, check and measure models
    Models(models::ModelsArgs),
    /// Look after the workers of a running server
    Workers(workers::WorkersArgs),
    /// Look after the connectors of a running server
    Connectors(connectors::ConnectorsArgs),
    /// Make, exchange and retire keys, and see which ones are in use
    Keys(keys::KeysArgs),
    /// Write alert rules for Prometheus and dashboards for Grafana
    Dashboards(dashboards::DashboardsArgs),
    /// Say what administrators did
    Audit(Box<audit::AuditArgs>),
    /// Say how the running server is
    Status(Box<queue::common::Common>),
    /// Look at the settings of a running server
    Config(settings::ConfigArgs),
    /// Look at the bus that tells of changed connectors
    Bus(bus::BusArgs),
    /// Look after the cache of opened connectors
    Cache(cache::CacheArgs),
    /// Look after the embeddings of a running server
    Embedding(embedding::EmbeddingArgs),
    /// Look after the search indexes
    Index(index::IndexArgs),
    /// Count what came and what was deleted
    Stats(stats::StatsArgs),
    /// Try the services that a running server is set to use
    Net(net::NetArgs),
    /// Collect what is needed to find out what is wrong, without secrets
    SupportBundle(Box<support::SupportArgs>),
    /// Remove for good what was deleted, and look at the receipts
    Purge(Box<purge::PurgeArgs>),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Read one file on the standard input, for the server
    #[command(hide = true)]
    ExtractText(extract::ExtractArgs),
}

/// Runs the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    crate::tls::init();
    // The values of variables can be secrets, so the help page does not show them.
    let command =
        Cli::command().mut_subcommands(|command| command.mut_args(|arg| arg.hide_env_values(true)));
    let parsed = command.try_get_matches().and_then(|given| {
        let mut cli = Cli::from_arg_matches(&given)?;
        if let (Command::Serve(args), Some((_, given))) = (&mut cli.command, given.subcommand()) {
            args.note(given);
        }
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. A closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, message) = verdict(&error);
            eprintln!("activekg: {message}");
            ExitCode::from(code)
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(args) => serve::run(&args),
            Self::Demo(args) => demo::run(&args),
            Self::Ask(args) => ask::run(&args),
            Self::Mcp(args) => mcp::run(&args),
            Self::Db(args) => db::run(&args),
            Self::Embed(args) => embed::run(args),
            Self::Eval(args) => eval::run(args),
            Self::Token(args) => token::run(&args),
            Self::Backup(args) => backup::run(&args),
            Self::Restore(args) => backup::restore(&args),
            Self::Queue(args) => queue::run(&args),
            Self::Dlq(args) => dlq::run(&args),
            Self::Models(args) => models::run(&args),
            Self::Workers(args) => workers::run(&args),
            Self::Connectors(args) => connectors::run(&args),
            Self::Keys(args) => keys::run(&args),
            Self::Dashboards(args) => dashboards::run(&args),
            Self::Audit(args) => audit::run(&args),
            Self::Status(args) => status::run(&args),
            Self::Config(args) => settings::run(&args),
            Self::Bus(args) => bus::run(&args),
            Self::Cache(args) => cache::run(&args),
            Self::Embedding(args) => embedding::run(&args),
            Self::Index(args) => index::run(&args),
            Self::Stats(args) => stats::run(&args),
            Self::Net(args) => net::run(&args),
            Self::SupportBundle(args) => support::run(&args),
            Self::Purge(args) => purge::run(&args),
            Self::Completions(args) => completions::run(&args),
            Self::ExtractText(args) => extract::run(&args),
        }
    }
}

/// The exit code and the one line for an error. Errors with a code of their own say what to do, so
/// what led to them is left out.
fn verdict(error: &anyhow::Error) -> (u8, String) {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return (USAGE, error.to_string());
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return (DATA_DIRECTORY, error.to_string());
    }
    (FAILED, format!("{error:#}"))
}

/// The threads of a command that talks over the network.
fn runtime() -> anyhow::Result<Runtime> {
    runtime_of(None)
}

/// [`runtime`] of which so many threads may wait for the disk at the same time.
fn runtime_of(pool_size: Option<usize>) -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(pool_size) = pool_size {
        builder.max_blocking_threads(pool_size);
    }
    builder.enable_all().build().context("start the async runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_and_a_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|argument| argument.get_long() != Some("help"))
        {
            assert!(argument.get_env().is_some(), "{}", argument.get_id());
            assert!(argument.get_long().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let setting = ConfigError::new("PORT", "is no number");
        let error = anyhow::Error::new(setting).context("read the settings");
        assert_eq!(verdict(&error), (USAGE, "PORT: is no number".to_owned()));
        let held = OpenError::Locked { path: "/srv/kg".into(), pid: Some(7) };
        let error = anyhow::Error::new(held).context("open the store");
        assert_eq!(verdict(&error).0, DATA_DIRECTORY);
        let error = anyhow::anyhow!("out of luck").context("do it");
        assert_eq!(verdict(&error), (FAILED, "do it: out of luck".to_owned()));
    }
}
