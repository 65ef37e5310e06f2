//! The files of a folder in order, from any of them on.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};

use super::beneath::Beneath;
use super::{Fault, Folder, Page, fault, names};
use crate::connectors::source::Unusable;

/// Folders within one another that are gone into.
const DEPTH_MAX: usize = 64;

/// A page of the files whose names begin with `prefix`, after the one called `cursor`. The order is
/// that of the names, part by part, so that a file that appears or goes moves no other.
pub(super) fn page(
    base: &Beneath,
    folder: &Folder,
    prefix: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page, Fault> {
    let after = match cursor {
        None => Vec::new(),
        Some(cursor) => names(Path::new(cursor)).ok_or_else(Fault::cursor)?,
    };
    let at = base.folder(&folder.below).map_err(|error| fault(&error))?;
    let (page, above) = (Page::default(), Vec::new());
    let mut walk = Walk { base, folder, prefix, limit, page, last: None, above };
    walk.visit(&at, &mut folder.below.clone(), "", &after).map_err(|error| fault(&error))?;
    Ok(walk.page)
}

struct Walk<'a> {
    base: &'a Beneath,
    folder: &'a Folder,
    prefix: &'a str,
    limit: usize,
    page: Page,
    /// What the last file of the page is called.
    last: Option<String>,
    /// The folders that the walk is in, by device and number: a link may lead back to one.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Visits a folder that is called `below` in the connector's. Where `after` has parts, what comes
    /// before them was on an earlier page. Whether to go on.
    fn visit(
        &mut self,
        at: &OwnedFd,
        way: &mut Vec<OsString>,
        below: &str,
        after: &[OsString],
    ) -> io::Result<bool> {
        let stat = fstat(at)?;
        #[expect(clippy::useless_conversion, reason = "the types differ between systems")]
        let id = (u64::from(stat.st_dev), u64::from(stat.st_ino));
        if self.above.contains(&id) || self.above.len() == DEPTH_MAX {
            self.unusable(below, "a folder within itself, or too deep");
            return Ok(true);
        }
        let names = Beneath::names(at)?;
        self.above.push(id);
        let mut go_on = true;
        for name in names {
            let on_the_way = after.first().is_some_and(|first| *first == name);
            if after.first().is_some_and(|first| name < *first) {
                continue;
            }
            let rest = if on_the_way { &after[1..] } else { &[] };
            if !self.entry(at, way, below, &name, (on_the_way, rest))? {
                go_on = false;
                break;
            }
        }
        self.above.pop();
        Ok(go_on)
    }

    fn entry(
        &mut self,
        at: &OwnedFd,
        way: &mut Vec<OsString>,
        below: &str,
        name: &OsString,
        (on_the_way, after): (bool, &[OsString]),
    ) -> io::Result<bool> {
        let Some(text) = name.to_str() else {
            self.unusable(&join(below, &name.to_string_lossy()), "its name is not UTF-8");
            return Ok(true);
        };
        let called = join(below, text);
        let stat = match self.base.look(at, way, name) {
            Ok(stat) => stat,
            // It went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(_) => {
                self.unusable(&called, "it cannot be read, or leads out of the folder");
                return Ok(true);
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inside = format!("{called}/");
                if !inside.starts_with(self.prefix) && !self.prefix.starts_with(&inside) {
                    return Ok(true);
                }
                way.push(name.clone());
                let inner = self.base.folder(way);
                let visited = inner.and_then(|inner| self.visit(&inner, way, &called, after));
                way.pop();
                match visited {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        self.unusable(&called, "the folder cannot be read");
                        Ok(true)
                    }
                    visited => visited,
                }
            }
            FileType::RegularFile => {
                if on_the_way
                    || !called.starts_with(self.prefix)
                    || !self.folder.globs.take(&called)
                {
                    return Ok(true);
                }
                if self.page.found.len() == self.limit {
                    self.page.next = self.last.take();
                    return Ok(false);
                }
                self.page.found.push(self.folder.found(&called, &stat));
                self.last = Some(called);
                Ok(true)
            }
            FileType::Symlink => {
                self.unusable(&called, "a symbolic link");
                Ok(true)
            }
            _ => {
                self.unusable(&called, "no regular file");
                Ok(true)
            }
        }
    }

    fn unusable(&mut self, name: &str, why: &'static str) {
        if name.starts_with(self.prefix) && self.page.unusable.len() < self.limit {
            self.page.unusable.push(Unusable { name: name.to_owned(), why });
        }
    }
}

fn join(below: &str, name: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }
}
