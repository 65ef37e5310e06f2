//! Google Drive, read by a service account.
//!
//! What is there already is found by going down from the folders that the connector names; what
//! happens afterwards comes from the feeds of changes, one for the account and one for each shared
//! drive. A file counts if a folder above it is one of those named, none is excluded, and one is
//! included where any are.

mod above;
mod api;
mod file;
mod walk;

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::globs::Globs;
use super::google::{Account, Tokens};
use super::{Fault, FaultClass, Found, News, Page, Settings, SourceParts, rest};

use above::Above;
use api::Api;
use file::{FIELDS, FOLDER, File, SCHEME, exported};

const SCOPE: &str = "https://www.googleapis.com/auth/drive.readonly";
/// Folders above one another that are gone through.
const DEPTH_MAX: usize = 64;
/// What the root of the account's own files is called besides its id.
const ROOT: &str = "root";

/// Files of a Drive.
pub(super) struct Drive {
    api: Api,
    /// Folders and shared drives that files are below; none stands for all that the account sees.
    roots: Vec<String>,
    drives: Vec<String>,
    include: HashSet<String>,
    exclude: HashSet<String>,
    types: HashSet<String>,
    exports: BTreeMap<String, String>,
    page_size: usize,
    has_feed: bool,
    globs: Globs,
    above: Above,
    /// The id of what is called `root`.
    own_root: OnceCell<Option<String>>,
}

impl Drive {
    pub(super) fn open(settings: &Settings<'_>, parts: &SourceParts) -> Result<Self, Fault> {
        let account = Account::own(settings, "credentials");
        let account = account.ok_or_else(|| Fault::settings("credentials are not set"))?;
        let subject = settings.text("subject_email").map(str::to_owned);
        let drives = ids(settings, "shared_drives")?;
        let mut roots = ids(settings, "root_folders")?;
        roots.extend(drives.iter().cloned());
        if let Some(folder) = settings.text("folder_id") {
            roots.push(id("folder_id", folder)?);
        }
        roots.sort_unstable();
        roots.dedup();
        let shown = settings.connector.shown();
        let exports = shown.get("export_formats").and_then(Value::as_object);
        let exports = exports
            .into_iter()
            .flatten()
            .filter_map(|(kind, to)| Some((kind.clone(), to.as_str()?.to_owned())));
        let page_size = shown.get("page_size").and_then(Value::as_u64).unwrap_or(100);
        Ok(Self {
            api: Api::new(Tokens::new(account, SCOPE, subject, parts), parts)?,
            roots,
            drives,
            include: ids(settings, "include_folders")?.into_iter().collect(),
            exclude: ids(settings, "exclude_folders")?.into_iter().collect(),
            types: texts(settings, "include_mime_types").into_iter().collect(),
            exports: exports.collect(),
            page_size: usize::try_from(page_size).unwrap_or(100).clamp(1, 1000),
            has_feed: settings.switch("use_changes_feed").unwrap_or(true),
            globs: settings.globs.clone(),
            above: Above::default(),
            own_root: OnceCell::new(),
        })
    }

    pub(super) async fn list(
        &self,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        if prefix.is_some_and(|prefix| !prefix.is_empty()) {
            return Err(Fault::new(FaultClass::Unsupported, "files of a Drive have no prefix"));
        }
        walk::page(self, cursor, limit).await
    }

    pub(super) async fn stat(&self, uri: &str) -> Result<Option<Found>, Fault> {
        let id = of_uri(uri)?;
        let Some(file) = self.file(id).await? else { return Ok(None) };
        self.taken(file).await
    }

    pub(super) async fn fetch(&self, found: &Found, max_bytes: u64) -> Result<Bytes, Fault> {
        let id = of_uri(&found.uri)?;
        let kind = found.props.get("drive_mime_type").and_then(Value::as_str);
        let kind = kind.unwrap_or_default();
        let response = match exported(kind, &self.exports) {
            Some(to) => {
                let query = format!("mimeType={}", rest::in_query(&to));
                self.api.get(&format!("files/{id}/export"), &query).await?
            }
            None => {
                self.api.get(&format!("files/{id}"), "alt=media&supportsAllDrives=true").await?
            }
        };
        rest::body(response, max_bytes).await
    }

    pub(super) fn feeds(&self) -> Vec<String> {
        if !self.has_feed {
            return Vec::new();
        }
        // The account's own, and one a shared drive.
        std::iter::once(String::new()).chain(self.drives.iter().cloned()).collect()
    }

    pub(super) async fn feed_from_now(&self, feed: &str) -> Result<String, Fault> {
        let query = format!("supportsAllDrives=true{}", of_drive(feed));
        let answer = self.api.json("changes/startPageToken", &query).await?;
        let token = answer.get("startPageToken").and_then(Value::as_str);
        token.map(cursor_at).ok_or_else(api::not_drive)
    }

    pub(super) async fn feed(&self, feed: &str, cursor: &str) -> Result<News, Fault> {
        let cursor: Value = serde_json::from_str(cursor).map_err(|_| Fault::cursor())?;
        let token = cursor.get("page_token").and_then(Value::as_str).ok_or_else(Fault::cursor)?;
        let query = format!(
            "pageToken={}&pageSize={}&supportsAllDrives=true&includeItemsFromAllDrives=true&includeRemoved=true{}&fields=nextPageToken,newStartPageToken,changes(removed,fileId,file({FIELDS}))",
            rest::in_query(token),
            self.page_size,
            of_drive(feed),
        );
        let answer = self.api.json("changes", &query).await?;
        let next = answer.get("nextPageToken").and_then(Value::as_str);
        let last = answer.get("newStartPageToken").and_then(Value::as_str);
        let mut news = News {
            cursor: next.or(last).map(cursor_at).ok_or_else(api::not_drive)?,
            more: next.is_some(),
            ..News::default()
        };
        let changes = answer.get("changes").and_then(Value::as_array).ok_or_else(api::not_drive)?;
        for change in changes {
            // Of a shared drive itself, which is no file.
            let Some(id) = change.get("fileId").and_then(Value::as_str) else { continue };
            let removed = change.get("removed").and_then(Value::as_bool) == Some(true);
            let file = change.get("file").filter(|_| !removed).and_then(File::parse);
            if file.as_ref().is_some_and(|file| file.kind == FOLDER) {
                // What is in one that went to the bin is gone with it.
                self.above.forget();
                news.moved = true;
                continue;
            }
            let Some(file) = file.filter(|file| !file.trashed) else {
                news.gone.push(format!("{SCHEME}{id}"));
                continue;
            };
            match self.taken(file).await? {
                Some(found) => news.found.push(found),
                None => news.gone.push(format!("{SCHEME}{id}")),
            }
        }
        Ok(news)
    }

    /// A file as it is now; `None` if it is not there or in the bin.
    async fn file(&self, id: &str) -> Result<Option<File>, Fault> {
        let query = format!("supportsAllDrives=true&fields={FIELDS}");
        match self.api.json(&format!("files/{id}"), &query).await {
            Ok(answer) => {
                let file = File::parse(&answer).ok_or_else(api::not_drive)?;
                Ok(Some(file).filter(|file| !file.trashed))
            }
            Err(Fault { class: FaultClass::NotFound, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A file, if the settings let it in.
    async fn taken(&self, file: File) -> Result<Option<Found>, Fault> {
        if !self.takes(&file) || !self.is_within(&file.parents).await? {
            return Ok(None);
        }
        Ok(file.found(&self.exports).ok())
    }

    /// Whether the settings let in a file of this name and type.
    fn takes(&self, file: &File) -> bool {
        let known = self.types.is_empty() || self.types.contains(&file.kind);
        file.kind != FOLDER && known && self.globs.take(&file.name)
    }

    /// Whether folders, or those above them, are what the settings say.
    async fn is_within(&self, parents: &[String]) -> Result<bool, Fault> {
        if self.roots.is_empty() && self.include.is_empty() && self.exclude.is_empty() {
            return Ok(true);
        }
        let own_root = self.own_root().await?;
        let (mut rooted, mut included) = (self.roots.is_empty(), self.include.is_empty());
        let (mut seen, mut next) = (HashSet::<String>::new(), parents.to_vec());
        while let Some(folder) = next.pop() {
            if seen.len() == DEPTH_MAX || !seen.insert(folder.clone()) {
                continue;
            }
            let other = if own_root == Some(&folder) { ROOT } else { &folder };
            let is_in = |ids: &HashSet<String>| ids.contains(&folder) || ids.contains(other);
            if is_in(&self.exclude) {
                return Ok(false);
            }
            rooted |= self.roots.iter().any(|root| *root == folder || root == other);
            included |= is_in(&self.include);
            next.extend(self.parents_of(&folder).await?);
        }
        Ok(rooted && included)
    }

    async fn parents_of(&self, folder: &str) -> Result<Vec<String>, Fault> {
        if let Some(known) = self.above.of(folder, Instant::now()) {
            return Ok(known);
        }
        // One that the account does not see has nothing above it for the account.
        let parents = self.file(folder).await?.map(|file| file.parents).unwrap_or_default();
        self.above.keep(folder, parents.clone(), Instant::now());
        Ok(parents)
    }

    /// The id of the account's own root, if the settings call it by its other name. Folders say
    /// only the id of what they are in.
    async fn own_root(&self) -> Result<Option<&str>, Fault> {
        let named = [&self.include, &self.exclude].iter().any(|ids| ids.contains(ROOT));
        if !named && !self.roots.iter().any(|root| root == ROOT) {
            return Ok(None);
        }
        let asked = self.own_root.get_or_try_init(|| async {
            Ok::<_, Fault>(self.file(ROOT).await?.map(|root| root.id))
        });
        Ok(asked.await?.as_deref())
    }
}

/// A cursor of a feed, as scripts know it.
fn cursor_at(token: &str) -> String {
    serde_json::json!({ "page_token": token, "start_page_token": token }).to_string()
}

fn of_drive(feed: &str) -> String {
    if feed.is_empty() { String::new() } else { format!("&driveId={feed}") }
}

fn of_uri(uri: &str) -> Result<&str, Fault> {
    let id = uri.strip_prefix(SCHEME).filter(|id| is_id(id));
    id.ok_or_else(Fault::elsewhere)
}

/// Ids go into addresses and queries.
fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=256).contains(&text.len()) && text.bytes().all(plain)
}

fn id(setting: &str, text: &str) -> Result<String, Fault> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err(Fault::settings(format!("{setting} holds something that is no id of a folder")))
}

fn ids(settings: &Settings<'_>, name: &str) -> Result<Vec<String>, Fault> {
    texts(settings, name).iter().map(|text| id(name, text)).collect()
}

fn texts(settings: &Settings<'_>, name: &str) -> Vec<String> {
    let list = settings.connector.shown().get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
