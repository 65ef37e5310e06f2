use std::fs;

use tempfile::TempDir;

use super::*;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a tenant")
}

/// A folder without links on the way, and a watch that looked at everything already.
fn watched(tenants: &[&str]) -> (TempDir, PathBuf, Watches) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap().join("watched");
    fs::create_dir(&folder).unwrap();
    let watches = Watches::default();
    let wanted = tenants.iter().map(|name| (tenant(name), folder.clone())).collect();
    watches.keep(&wanted);
    tenants.iter().for_each(|name| watches.clear(&tenant(name)));
    (dir, folder, watches)
}

/// The next hint of a tenant.
async fn next(watches: &Watches, name: &str) -> Hint {
    let hint = async {
        loop {
            watches.due().await;
            if let Some(hint) = watches.take(&tenant(name)) {
                return hint;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), hint).await.expect("a hint comes")
}

/// Hints of a tenant until all of these files were in one.
async fn until_seen(watches: &Watches, name: &str, paths: &[PathBuf]) {
    let mut missing: HashSet<&PathBuf> = paths.iter().collect();
    while !missing.is_empty() {
        match next(watches, name).await {
            Hint::Files(files) => missing.retain(|missing| !files.contains(missing)),
            Hint::Whole => panic!("nothing happened to a folder; missing: {missing:?}"),
        }
    }
}

#[tokio::test]
async fn files_that_are_written_moved_and_removed_are_seen_by_all_who_have_the_folder() {
    let (_dir, folder, watches) = watched(&["acme", "harbor"]);
    let (new, moved) = (folder.join("new.txt"), folder.join("moved.txt"));
    fs::write(&new, "new").unwrap();
    for name in ["acme", "harbor"] {
        until_seen(&watches, name, std::slice::from_ref(&new)).await;
    }
    fs::rename(&new, &moved).unwrap();
    until_seen(&watches, "acme", &[new, moved.clone()]).await;
    fs::remove_file(&moved).unwrap();
    until_seen(&watches, "acme", &[moved]).await;
    assert!(!watches.is_due(&tenant("nobody")) && watches.take(&tenant("nobody")).is_none());
}

#[tokio::test]
async fn folders_that_come_are_watched_and_everything_is_looked_at() {
    let (_dir, folder, watches) = watched(&["acme"]);
    fs::create_dir_all(folder.join("a/b")).unwrap();
    assert_eq!(next(&watches, "acme").await, Hint::Whole);
    let deep = folder.join("a/b/deep.txt");
    fs::write(&deep, "deep").unwrap();
    // The folder may still have been found twice.
    while !matches!(next(&watches, "acme").await, Hint::Files(files) if files.contains(&deep)) {}
    fs::rename(folder.join("a"), folder.join("z")).unwrap();
    assert_eq!(next(&watches, "acme").await, Hint::Whole);
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_anew_and_others_no_more() {
    let (_dir, folder, watches) = watched(&["acme"]);
    let wanted = HashMap::from([(tenant("acme"), folder.clone())]);
    let away = folder.with_extension("away");
    for round in ["removed", "moved"] {
        // What has its name now may have its number as well.
        match round {
            "removed" => fs::remove_dir_all(&folder).unwrap(),
            _ => fs::rename(&folder, &away).unwrap(),
        }
        fs::create_dir(&folder).unwrap();
        assert_eq!(next(&watches, "acme").await, Hint::Whole, "{round}");
        watches.keep(&wanted);
        assert_eq!(next(&watches, "acme").await, Hint::Whole, "{round}");
        let new = folder.join("new.txt");
        fs::write(&new, "new").unwrap();
        until_seen(&watches, "acme", &[new]).await;
    }

    // One that is not there is tried again, later.
    let missing = HashMap::from([(tenant("acme"), folder.join("missing"))]);
    watches.keep(&missing);
    watches.keep(&missing);
    watches.keep(&HashMap::new());
    assert!(watches.take(&tenant("acme")).is_none());
    assert!(lock(&watches.watcher).inner.is_none() && lock(&watches.hints.folders).is_empty());
}

#[test]
fn a_hint_waits_for_quiet_and_not_for_ever() {
    let (start, path) = (Instant::now(), Path::new("/a"));
    let at = |ms: u64| start + Duration::from_millis(ms);
    let files = |paths: &[&str]| Some(Hint::Files(paths.iter().map(PathBuf::from).collect()));
    let mut pending = Pending::default();
    assert_eq!((pending.due(), pending.take(at(0))), (None, None));
    pending.file(path, at(0));
    pending.file(path, at(900));
    pending.file(Path::new("/b"), at(900));
    assert_eq!(pending.take(at(1899)), None);
    pending.file(Path::new("/b"), at(1899));
    assert_eq!(pending.take(at(1900)), files(&["/a"]));
    assert_eq!(pending.take(at(2899)), files(&["/b"]));
    // One that is written to all the time.
    for ms in (3000..33_000).step_by(500) {
        pending.file(path, at(ms));
        assert_eq!(pending.take(at(ms)), None);
    }
    assert_eq!(pending.take(at(33_000)), files(&["/a"]));

    // Everything stands for all files, and has a rest.
    pending.file(path, at(40_000));
    pending.everything(at(40_000));
    pending.file(path, at(40_500));
    pending.rests_until = Some(at(60_000));
    assert_eq!((pending.take(at(59_999)), pending.take(at(60_000))), (None, Some(Hint::Whole)));
    assert_eq!(pending.due(), None);
    for n in 0..=FILES_MAX {
        pending.file(&PathBuf::from(n.to_string()), at(70_000));
    }
    assert_eq!((pending.files.len(), pending.take(at(71_000))), (0, Some(Hint::Whole)));
}

#[test]
fn where_hints_were_lost_everything_is_looked_at() {
    let (_dir, folder, watches) = watched(&["acme"]);
    let seen = |event: notify::Result<Event>| {
        watches.hints.see(event);
        let take = |pending: &mut Pending| pending.take(Instant::now() + PATIENCE);
        watches.hints.of(&tenant("acme"), take).flatten()
    };
    let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    assert_eq!(seen(Ok(overflow)), Some(Hint::Whole));
    let full = notify::Error::new(notify::ErrorKind::MaxFilesWatch);
    assert!(advice(&full).contains("max_user_watches"));
    assert_eq!(seen(Err(full)), Some(Hint::Whole));
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert_eq!(seen(Ok(Event::new(opened).add_path(folder.join("a")))), None);
    let elsewhere = Event::new(EventKind::Create(CreateKind::File)).add_path("/elsewhere".into());
    assert_eq!(seen(Ok(elsewhere)), None);
}
