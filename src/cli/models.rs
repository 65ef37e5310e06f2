//! `activekg models`: the models there are, and how fast they are here.

mod bench;
mod change;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use activekg_storage::time::{Clock as _, SystemClock};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::queue::common::Consent;
use super::remote::Client;
use crate::config;
use crate::config::options::StoreOptions;
use crate::embedding::{Encoder, ModelInfo, Precision};
use crate::models::{Entry, Kept, Kind, Library, ModelName};
use crate::timestamp::iso;

/// List, add, check, measure and change models
///
/// One embedding model is compiled in. Others are folders or files on this machine; an added one is copied beside the
/// data and goes by its name from then on: EMBEDDING_MODEL=NAME for one that makes vectors, LLM_MODEL=NAME for one that
/// writes answers.
#[derive(Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List the models
    List(Box<ListArgs>),
    /// Copy a model beside the data: a folder with model.safetensors, or a .gguf file
    ///
    /// The copy is loaded and tried before it counts. It is synced to the disk, and SHA-256 digests of its files are
    /// kept for `verify`.
    Add(Box<AddArgs>),
    /// Compare models with what was added, and try them
    Verify(Box<VerifyArgs>),
    /// Remove an added model
    Remove(Box<RemoveArgs>),
    /// Have a running server make the vectors of another model beside those that serve
    ///
    /// Searches go on with the model that serves. `switch` goes over when all vectors are there, `roll-back` goes back,
    /// and `drop` removes the model that does not serve. A restart goes on where it was.
    Change(Box<change::ChangeArgs>),
    /// Show which embedding model serves, and how far a change is
    Status(Box<change::StatusArgs>),
    /// Search for sampled queries by both models of a change, and compare what is found
    Compare(Box<change::CompareArgs>),
    /// Go over to the new model of a change
    Switch(Box<change::SwitchArgs>),
    /// Go back to the old model of a change
    RollBack(Box<change::SwitchArgs>),
    /// End a change: remove the vectors of the model that does not serve
    Drop(Box<change::DropArgs>),
    /// Measure how many texts a second a model embeds on this machine
    Bench(Box<bench::BenchArgs>),
}

#[derive(Args)]
struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args)]
struct AddArgs {
    /// The folder or the file
    path: PathBuf,
    /// What to call it [default: the name of the folder or the file]
    #[arg(long)]
    name: Option<ModelName>,
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args)]
struct VerifyArgs {
    /// Only this model [default: all]
    name: Option<ModelName>,
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args)]
struct RemoveArgs {
    /// Its name
    name: ModelName,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    store: StoreOptions,
}

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    match &args.command {
        ModelsCommand::List(args) => list(args),
        ModelsCommand::Add(args) => add(args),
        ModelsCommand::Verify(args) => verify(args),
        ModelsCommand::Remove(args) => remove(args),
        ModelsCommand::Bench(args) => bench::run(args),
        ModelsCommand::Change(args) => super::runtime()?.block_on(change::change(args)),
        ModelsCommand::Status(args) => super::runtime()?.block_on(change::status(args)),
        ModelsCommand::Compare(args) => super::runtime()?.block_on(change::compare(args)),
        ModelsCommand::Switch(args) => super::runtime()?.block_on(change::switch(args, "switch")),
        ModelsCommand::RollBack(args) => {
            super::runtime()?.block_on(change::switch(args, "roll-back"))
        }
        ModelsCommand::Drop(args) => super::runtime()?.block_on(change::drop_other(args)),
    }
}

fn data_dir(store: &StoreOptions) -> anyhow::Result<PathBuf> {
    Ok(config::Store::new(store, &mut Vec::new())?.data_dir)
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let library = Library::of(&data_dir(&args.store)?);
    let mut models = vec![json!({
        "name": ModelInfo::built_in().name, "kind": "embedder", "bytes": null, "added_at": null, "path": null,
        "problem": null,
    })];
    for Entry { name, kept } in library.list()? {
        let model = match &kept {
            Ok(Kept { manifest, loads }) => json!({
                "name": name.as_str(),
                "kind": manifest.kind.as_str(),
                "bytes": manifest.bytes(),
                "added_at": iso(manifest.added_at),
                "path": loads,
                "problem": null,
            }),
            Err(error) => json!({
                "name": name.as_str(), "kind": null, "bytes": null, "added_at": null, "path": null,
                "problem": error.to_string(),
            }),
        };
        models.push(model);
    }
    let text =
        if args.json { format!("{}\n", json!({ "models": models })) } else { table(&models) };
    io::stdout().write_all(text.as_bytes()).context("write the list")
}

/// The models, a line each.
fn table(models: &[Value]) -> String {
    let mut text = format!("{:<32} {:<10} {:>12}  where\n", "name", "kind", "bytes");
    for model in models {
        let name = model["name"].as_str().unwrap_or("-");
        let kind = model["kind"].as_str().unwrap_or("-");
        let bytes = model["bytes"].as_u64().map_or("-".to_owned(), |bytes| bytes.to_string());
        let place = model["problem"].as_str().or(model["path"].as_str()).unwrap_or("compiled in");
        text.push_str(&format!("{name:<32} {kind:<10} {bytes:>12}  {place}\n"));
    }
    text
}

fn add(args: &AddArgs) -> anyhow::Result<()> {
    let AddArgs { path, name, store } = args;
    let name = match name {
        Some(name) => name.clone(),
        None => usual_name(path)?,
    };
    if name.as_str() == ModelInfo::built_in().name {
        bail!("{name} is the model that is compiled in; choose another --name");
    }
    let library = Library::of(&data_dir(store)?);
    let now = SystemClock.now();
    let progress = progress("copied");
    let kept = library.add(path, &name, now, try_out, |bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    let setting = match kept.manifest.kind {
        Kind::Embedder => format!("EMBEDDING_MODEL={name}"),
        Kind::Writer => format!("LLM_BACKEND=local LLM_MODEL={name}"),
    };
    eprintln!("added, {} bytes; use it with {setting}", kept.manifest.bytes());
    println!("{}", kept.loads.display());
    Ok(())
}

/// The last part of the path, without `.gguf`.
fn usual_name(path: &Path) -> anyhow::Result<ModelName> {
    let path = std::path::absolute(path).context("find the working directory")?;
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = match last.len().checked_sub(".gguf".len()) {
        Some(at) if last.is_char_boundary(at) && last[at..].eq_ignore_ascii_case(".gguf") => {
            &last[..at]
        }
        _ => last,
    };
    stem.parse().context("say what to call it with --name")
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let library = Library::of(&data_dir(&args.store)?);
    let names: Vec<ModelName> = match &args.name {
        Some(name) => vec![name.clone()],
        None => library.list()?.into_iter().map(|entry| entry.name).collect(),
    };
    let mut bad = 0;
    for name in &names {
        let problems = problems(&library, name);
        if problems.is_empty() {
            println!("{name}: as it was added, and it works");
        }
        bad += usize::from(!problems.is_empty());
        for problem in problems {
            println!("{name}: {problem}");
        }
    }
    match (bad, names.len()) {
        (_, 0) => eprintln!("no model has been added"),
        (0, _) => {}
        (bad, n) => bail!("{bad} of {n} models cannot be used; remove them and add them again"),
    }
    Ok(())
}

/// What is wrong with a model.
fn problems(library: &Library, name: &ModelName) -> Vec<String> {
    let progress = progress("read");
    let faults = library.verify(name, |bytes| progress.inc(bytes));
    progress.finish_and_clear();
    let kept = match (faults, library.get(name)) {
        (Ok(faults), Ok(kept)) if faults.is_empty() => kept,
        (Ok(faults), Ok(_)) => {
            return faults.iter().map(|f| format!("{}: {}", f.file, f.reason)).collect();
        }
        (Err(error), _) | (_, Err(error)) => return vec![error.to_string()],
    };
    try_out(&kept).err().into_iter().collect()
}

/// Loads a model and has it do a little of its work.
fn try_out(kept: &Kept) -> Result<(), String> {
    match kept.manifest.kind {
        Kind::Embedder => {
            let encoder =
                Encoder::open(&kept.loads, Precision::Auto).map_err(|error| error.to_string())?;
            let vectors = encoder.encode(&["a text to try it with"]);
            match vectors.map_err(|error| error.to_string())?.first() {
                Some(vector) if vector.iter().all(|x| x.is_finite()) => Ok(()),
                _ => Err("it makes no vectors of finite numbers".to_owned()),
            }
        }
        // Its first bytes were looked at when it was copied.
        Kind::Writer => crate::llm::local::check(&kept.loads).map_err(|error| error.to_string()),
    }
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let RemoveArgs { name, consent, store } = args;
    let data_dir = data_dir(store)?;
    let library = Library::of(&data_dir);
    if let Some(server) = Client::connect(&data_dir)?
        && super::runtime()?.block_on(uses(&server, name))?
    {
        bail!(
            "the server on {} works with {name}; have it go over to another one first (`activekg models change`, LLM_MODEL)",
            data_dir.display()
        );
    }
    consent.ask(&format!("remove {}", library.folder(name).display()))?;
    library.remove(name)?;
    eprintln!("removed {name}");
    Ok(())
}

/// Whether a server works with the model `name`.
async fn uses(server: &Client, name: &ModelName) -> anyhow::Result<bool> {
    let health = server.get("/health").await?;
    let models = server.get("/admin/model").await?;
    let change = &models["change"];
    let embedders = [&models["serving"], &change["to"], &change["from"]].map(|of| &of["model"]);
    let used = std::iter::once(&health["llm_model"]).chain(embedders);
    Ok(used.into_iter().any(|used| used == name.as_str()))
}

/// A count of bytes on standard error, if a person is looking at it.
fn progress(done: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = format!("{{bytes}} {done}, {{bytes_per_sec}}");
    let style = ProgressStyle::with_template(&style).expect("the template above is well-formed");
    ProgressBar::no_length().with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_its_file() {
        let name = |path: &str| usual_name(Path::new(path)).map(|name| name.to_string());
        assert_eq!(name("/models/bge-small-en-v1.5/").unwrap(), "bge-small-en-v1.5");
        assert_eq!(name("x/SmolLM2.Q4_1.GGUF").unwrap(), "SmolLM2.Q4_1");
        assert_eq!(name("é.gguf").unwrap_err().to_string(), "say what to call it with --name");
        assert!(name("/").is_err());
    }

    #[test]
    fn models_are_a_table() {
        let models = [
            json!({"name": "a", "kind": "embedder", "bytes": null, "path": null, "problem": null}),
            json!({"name": "b", "kind": null, "bytes": 7, "path": null, "problem": "damaged"}),
        ];
        let text = table(&models);
        let lines: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [vec!["a", "embedder", "-", "compiled", "in"], vec!["b", "-", "7", "damaged"]]
        );
    }
}
