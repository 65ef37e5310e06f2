use std::cell::Cell;

use super::manifest::MANIFEST;
use super::*;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

/// A folder that looks like an embedder, with a file that is none of the model's.
fn embedder(dir: &Path) -> PathBuf {
    let folder = dir.join("source");
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for (name, text) in [
        ("config.json", "{}"),
        ("tokenizer.json", "{\"a\":1}"),
        ("model.safetensors", "weights"),
        ("1_Pooling/config.json", "{\"pooling_mode_mean_tokens\":true}"),
        ("LICENSE", "free"),
        ("optimizer.bin", "not wanted"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    folder
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn add(library: &Library, path: &Path, called: &str) -> Result<Kept, Error> {
    library.add(path, &name(called), NOW, |_| Ok(()), |_| {})
}

#[test]
fn an_embedder_is_copied_with_what_belongs_to_it_and_found_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    assert!(library.list().unwrap().is_empty());
    let copied = Cell::new(0);
    let kept = library
        .add(
            &embedder(dir.path()),
            &name("bge"),
            NOW,
            |kept| {
                assert!(kept.loads.join("model.safetensors").exists(), "the copy is there to load");
                Ok(())
            },
            |bytes| copied.set(copied.get() + bytes),
        )
        .unwrap();
    assert_eq!(kept.manifest.kind, Kind::Embedder);
    assert_eq!(kept.loads, dir.path().join("models/bge"));
    assert_eq!(kept.manifest.bytes(), copied.get());
    let files: Vec<&str> = kept.manifest.files.iter().map(|file| file.name.as_str()).collect();
    let expected =
        ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json", "LICENSE"];
    assert_eq!(files, expected);
    assert_eq!(library.find(&name("bge")).unwrap(), Some(kept.loads.clone()));
    assert_eq!(library.find(&name("other")).unwrap(), None);
    assert_eq!(library.get(&name("bge")).unwrap(), kept);
    assert!(library.verify(&name("bge"), |_| {}).unwrap().is_empty());
    assert!(matches!(add(&library, &kept.loads, "bge"), Err(Error::Exists(_))));
}

#[test]
fn a_writer_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.gguf");
    fs::write(&file, "GGUF").unwrap();
    let library = Library::of(dir.path());
    let kept = add(&library, &file, "tiny").unwrap();
    assert_eq!(kept.manifest.kind, Kind::Writer);
    assert_eq!(kept.loads, dir.path().join("models/tiny/tiny.gguf"));
}

#[test]
fn what_is_no_model_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    let folder = embedder(dir.path());
    let refused = library.add(&folder, &name("m"), NOW, |_| Err("bad weights".into()), |_| {});
    assert!(refused.unwrap_err().to_string().ends_with("is not a model: bad weights"));
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let text = add(&library, &folder, "m").unwrap_err().to_string();
    assert!(text.ends_with("the folder lacks tokenizer.json"), "{text}");
    assert!(matches!(add(&library, &dir.path().join("none"), "m"), Err(Error::Io { .. })));
    let text = dir.path().join("text.txt");
    fs::write(&text, "x").unwrap();
    assert!(matches!(add(&library, &text, "m"), Err(Error::NotAModel { .. })));
    assert!(library.list().unwrap().is_empty());
    let left: Vec<_> = fs::read_dir(dir.path().join("models")).unwrap().collect();
    assert_eq!(left.len(), 1, "the lock and nothing else: {left:?}");
}

#[test]
fn a_changed_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    let kept = add(&library, &embedder(dir.path()), "m").unwrap();
    fs::write(kept.loads.join("config.json"), "[]").unwrap();
    fs::write(kept.loads.join("LICENSE"), "fre").unwrap();
    fs::remove_file(kept.loads.join("tokenizer.json")).unwrap();
    let faults = library.verify(&name("m"), |_| {}).unwrap();
    let named: Vec<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    assert_eq!(named, ["config.json", "tokenizer.json", "LICENSE"]);
    assert_eq!(faults[2].reason, "has 3 bytes, had 4");
}

#[test]
fn a_damaged_list_is_named_and_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    let kept = add(&library, &embedder(dir.path()), "m").unwrap();
    let list = kept.loads.join(MANIFEST);
    for bad in [
        "",
        "{",
        r#"{"kind":"embedder","added_at":0,"files":[{"name":"../../x","bytes":1,"sha256":""}]}"#,
        r#"{"kind":"embedder","added_at":0,"files":[{"name":"a/b/c","bytes":1,"sha256":""}]}"#,
        r#"{"kind":"embedder","added_at":0,"files":[{"name":"/etc/passwd","bytes":1,"sha256":""}]}"#,
        r#"{"kind":"poet","added_at":0,"files":[]}"#,
    ] {
        fs::write(&list, bad).unwrap();
        let listed = library.list().unwrap();
        assert!(matches!(listed[0].kept, Err(Error::Damaged { .. })), "{bad}");
        assert!(library.find(&name("m")).is_err(), "{bad}");
    }
    library.remove(&name("m")).unwrap();
    assert!(library.list().unwrap().is_empty());
}

#[test]
fn a_removed_model_is_gone_and_what_was_left_unfinished_too() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    let folder = embedder(dir.path());
    add(&library, &folder, "m").unwrap();
    let unfinished = dir.path().join("models").join(format!("{DRAFT}old"));
    fs::create_dir_all(unfinished.join("deep")).unwrap();
    assert_eq!(library.list().unwrap().len(), 1, "a draft is no model");
    library.remove(&name("m")).unwrap();
    assert!(matches!(library.remove(&name("m")), Err(Error::NotFound(_))));
    add(&library, &folder, "again").unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn one_process_changes_the_library_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::of(dir.path());
    let lock = library.lock().unwrap();
    assert!(matches!(add(&library, &embedder(dir.path()), "m"), Err(Error::Busy(_))));
    drop(lock);
    add(&library, &embedder(dir.path()), "m").unwrap();
}
