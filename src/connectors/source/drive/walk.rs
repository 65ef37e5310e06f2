//! Going down from the folders that a connector names.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::{FIELDS, FOLDER, File};
use super::{Drive, api, is_id};
use crate::connectors::source::{Fault, Page, Unusable, rest};

/// Folders that may wait to be gone into.
const WAITING_MAX: usize = 100_000;

/// How far a walk has come.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    /// Folders to be gone into, the next one last, and whether they are below an included one. An
    /// empty name stands for everything that the account sees.
    folders: Vec<(String, bool)>,
    /// Where in the last of them to go on.
    #[serde(default)]
    page_token: Option<String>,
}

/// A page of the walk: what one request finds.
pub(super) async fn page(drive: &Drive, cursor: Option<&str>, limit: usize) -> Result<Page, Fault> {
    let mut cursor = match cursor {
        None => start(drive),
        Some(text) => {
            let cursor: Cursor = serde_json::from_str(text).map_err(|_| Fault::cursor())?;
            let plain = cursor.folders.iter().all(|(id, _)| id.is_empty() || is_id(id));
            if plain { cursor } else { return Err(Fault::cursor()) }
        }
    };
    let Some((folder, included)) = cursor.folders.last().cloned() else {
        return Ok(Page::default());
    };
    let wanted = match folder.as_str() {
        "" => format!("trashed = false and mimeType != '{FOLDER}'"),
        folder => format!("'{folder}' in parents and trashed = false"),
    };
    let mut query = format!(
        "q={}&pageSize={}&supportsAllDrives=true&includeItemsFromAllDrives=true&fields=nextPageToken,files({FIELDS})",
        rest::in_query(&wanted),
        limit.min(drive.page_size),
    );
    if let Some(token) = &cursor.page_token {
        query.push_str("&pageToken=");
        query.push_str(&rest::in_query(token));
    }
    let answer = drive.api.json("files", &query).await?;
    let next = answer.get("nextPageToken").and_then(Value::as_str).map(str::to_owned);
    let files = answer.get("files").and_then(Value::as_array).ok_or_else(api::not_drive)?;
    let files = files.iter().map(File::parse).collect::<Option<Vec<File>>>();
    let mut page = Page::default();
    let mut inside = Vec::new();
    for file in files.ok_or_else(api::not_drive)? {
        if file.trashed {
            continue;
        }
        if file.kind == FOLDER {
            if !drive.exclude.contains(&file.id) {
                let included = included || drive.include.contains(&file.id);
                inside.push((file.id, included));
            }
            continue;
        }
        let within = match folder.as_str() {
            "" => drive.is_within(&file.parents).await?,
            _ => included,
        };
        if !within || !drive.takes(&file) {
            continue;
        }
        let name = file.name.clone();
        match file.found(&drive.exports) {
            Ok(found) => page.found.push(found),
            Err(why) => page.unusable.push(Unusable { name, why }),
        }
    }
    // The folder goes on, and what is in it waits below it; or it is done.
    let rest_of_it = match next {
        Some(_) => cursor.folders.pop(),
        None => {
            cursor.folders.pop();
            None
        }
    };
    cursor.folders.extend(inside);
    cursor.folders.extend(rest_of_it);
    cursor.page_token = next;
    if cursor.folders.len() > WAITING_MAX {
        return Err(Fault::settings("there are too many folders; name fewer with root_folders"));
    }
    if !cursor.folders.is_empty() {
        let text = serde_json::to_string(&cursor).map_err(|_| Fault::cursor())?;
        page.next = Some(text);
    }
    Ok(page)
}

fn start(drive: &Drive) -> Cursor {
    let none = drive.include.is_empty();
    let roots = drive.roots.iter().filter(|root| !drive.exclude.contains(*root));
    let mut folders: Vec<(String, bool)> =
        roots.map(|root| (root.clone(), none || drive.include.contains(root))).collect();
    if drive.roots.is_empty() {
        folders.push((String::new(), true));
    }
    Cursor { folders, page_token: None }
}
