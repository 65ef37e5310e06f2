//! Hands the commit to `--version`. Works without git: the commit is then left out.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = std::env::var("ACTIVEKG_BUILD_COMMIT").ok().or_else(from_git).unwrap_or_default();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let full = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo::rustc-env=ACTIVEKG_COMMIT={commit}");
    println!("cargo::rustc-env=ACTIVEKG_FULL_VERSION={full}");
    println!("cargo::rerun-if-env-changed=ACTIVEKG_BUILD_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // The log of HEAD grows with every commit and checkout; HEAD itself only with the latter.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
}

/// The commit of this very repository: an archive unpacked inside another one has none.
fn from_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(["rev-parse", "--short=8", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
